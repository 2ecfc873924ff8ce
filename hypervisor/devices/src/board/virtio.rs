//! The virtio side of a board: accesses to the windows of its PCI devices, the work they leave, their interrupts.

use pleat_types::PortSize;

use super::{Board, ConsoleFull, Notified, PortEffect};
use crate::pci::VIRTIO_PLACES;
use crate::virtio::{
    BALLOON, Balloon, Block, CONSOLE, Console, Entropy, FunctionView, Hands, MEM, Mem, NAMES, NOTIFY,
    PortClosed, Served, deliver,
};

impl Board {
    /// IN from a port that belongs to the PCI bus.
    pub(super) fn read_window(&mut self, port: u16, size: PortSize) -> u32 {
        let Some((place, offset)) = self.pci.decode(port) else {
            self.unknown_ports += u64::from(size.bytes());
            return size.mask();
        };
        self.read_registers(place, offset, size)
    }

    /// A read of a virtio device's registers.
    fn read_registers(&mut self, place: usize, offset: u16, size: PortSize) -> u32 {
        let Some(endpoint) = self.virtio.endpoint_mut(place) else {
            return size.mask();
        };
        let had_interrupt = endpoint.registers().wants_intx();
        let value = endpoint.read(offset, size);
        if had_interrupt {
            // It may have been ISR status that was read.
            self.settle(place);
        }
        value
    }

    /// OUT to a port that belongs to the PCI bus.
    pub(super) fn write_window(&mut self, port: u16, size: PortSize, value: u32) -> PortEffect {
        let Some((place, offset)) = self.pci.decode(port) else {
            self.unknown_ports += u64::from(size.bytes());
            return PortEffect::None;
        };
        self.write_registers(place, offset, size, value)
    }

    /// A write of a virtio device's registers.
    #[inline(always)] // every notification comes this way
    fn write_registers(&mut self, place: usize, offset: u16, size: PortSize, value: u32) -> PortEffect {
        let Some(endpoint) = self.virtio.endpoint_mut(place) else {
            return PortEffect::None;
        };
        if offset < NOTIFY {
            endpoint.write(offset, size, value);
            self.settle(place);
            return self.kick(place);
        }
        // Each queue has an address of its own; the number written there says the same (4.1.5.2).
        let queue = (offset - NOTIFY) >> 2;
        let is_new = endpoint.notify(queue);
        let is_master = self
            .pci
            .function(place)
            .is_some_and(|function| function.is_master());
        if is_new && is_master {
            self.virtio.mark_busy(place);
            PortEffect::Notified(Notified {
                place: u8::try_from(place).unwrap_or(u8::MAX),
                queue: (queue & 31) as u8,
            })
        } else {
            PortEffect::None
        }
    }

    /// IN from configuration space.
    pub(super) fn read_config_space(&mut self, port: u16, size: PortSize) -> u32 {
        if let Some((place, offset, bytes)) = self.pci.accessed(port) {
            let value = self.read_registers(place, offset, bytes);
            self.pci.set_accessed(place, value);
        }
        self.pci.read(port, size)
    }

    /// OUT to configuration space.
    pub(super) fn write_config_space(&mut self, port: u16, size: PortSize, value: u32) -> PortEffect {
        let written = self.pci.write(port, size, value);
        if let Some((place, offset, bytes)) = self.pci.accessed(port) {
            let value = self.pci.access_data(place) & bytes.mask();
            return self.write_registers(place, offset, bytes, value);
        }
        match written {
            Some(place) => {
                self.settle(place);
                self.kick(place)
            }
            None => PortEffect::None,
        }
    }

    /// After a change to a device: its wire, and whether it has something to serve.
    fn settle(&mut self, place: usize) {
        let (Some(function), Some(endpoint)) =
            (self.pci.function_mut(place), self.virtio.endpoint_mut(place))
        else {
            return;
        };
        let registers = endpoint.registers();
        if !function.uses_msix() {
            registers.pending = 0;
        }
        let level = function.drive(registers.wants_intx());
        self.pic.set_line(function.irq(), level);
        let has_messages = registers.pending != 0 && !function.is_masked();
        if function.is_master() && (registers.kicked != 0 || has_messages) {
            self.virtio.mark_busy(place);
        } else {
            self.virtio.mark_idle(place);
        }
    }

    const fn kick(&self, place: usize) -> PortEffect {
        if self.virtio.busy() >> place & 1 != 0 {
            PortEffect::Kick
        } else {
            PortEffect::None
        }
    }

    /// Whether [`Board::serve`] has something to do: kicked queues, or messages that were not delivered yet.
    #[inline]
    #[must_use]
    pub const fn has_device_work(&self) -> bool {
        self.virtio.busy() != 0
    }

    /// Whether a queue that was notified still has work: of another queue's, which may have to wait for memory, its
    /// driver need not know.
    pub fn is_waiting(&mut self, notified: Notified) -> bool {
        let endpoint = self.virtio.endpoint_mut(usize::from(notified.place));
        endpoint.is_some_and(|endpoint| endpoint.registers().kicked >> notified.queue & 1 != 0)
    }

    /// One bounded step of work on each kicked queue, and the interrupts that come of it. To be called when
    /// [`PortEffect::Kick`] or [`Board::has_device_work`] says so, while the guest does not run.
    pub fn serve<H: Hands>(&mut self, hands: &mut H) -> Served {
        let busy = self.virtio.busy();
        let places = (0..VIRTIO_PLACES).filter(|place| busy >> place & 1 != 0);
        places.fold(Served::Idle, |served, place| {
            served.max(self.serve_place(place, hands))
        })
    }

    fn serve_place<H: Hands>(&mut self, place: usize, hands: &mut H) -> Served {
        let Some(&function) = self.pci.function(place) else {
            return Served::Idle;
        };
        let mut served = self.virtio.step(place, hands, function.uses_msix());
        if let Some(endpoint) = self.virtio.endpoint_mut(place)
            && !function.is_masked()
        {
            let sent = deliver(endpoint.registers(), function.table(), hands, &mut self.apic);
            served = served.max(sent);
        }
        self.settle(place);
        served
    }

    /// A device's configuration has changed under its driver.
    fn tell_of_configuration(&mut self, place: usize) {
        let uses_msix = self
            .pci
            .function(place)
            .is_some_and(|function| function.uses_msix());
        if let Some(endpoint) = self.virtio.endpoint_mut(place) {
            endpoint.registers().change_configuration(uses_msix);
        }
        self.settle(place);
    }

    /// A device was given something to do for its owner.
    fn take_wishes(&mut self, place: usize) {
        if let Some(endpoint) = self.virtio.endpoint_mut(place) {
            endpoint.take_wishes();
        }
        self.settle(place);
    }

    /// How many pages the guest is asked to put into its balloon.
    pub fn set_balloon_target(&mut self, frames: u64) {
        let balloon = self.virtio.balloon.as_mut();
        if balloon.is_some_and(|balloon| balloon.device.set_target(frames)) {
            self.tell_of_configuration(BALLOON);
        }
    }

    /// Asks the guest for statistics of its memory, once.
    pub fn ask_statistics(&mut self) {
        if let Some(balloon) = &mut self.virtio.balloon {
            balloon.device.ask_statistics();
        }
        self.take_wishes(BALLOON);
    }

    /// How much of the memory that can be plugged the guest is asked to have.
    pub fn set_requested_memory(&mut self, bytes: u64) {
        let mem = self.virtio.mem.as_mut();
        if mem.is_some_and(|mem| mem.device.set_requested(bytes)) {
            self.tell_of_configuration(MEM);
        }
    }

    /// A byte typed on the guest's virtio console.
    ///
    /// # Errors
    /// The backlog is full, or there is no such console; the byte was dropped.
    pub fn receive_console(&mut self, byte: u8) -> Result<(), ConsoleFull> {
        let console = self.virtio.console.as_mut().ok_or(ConsoleFull)?;
        console.device.receive_console(byte)?;
        self.take_wishes(CONSOLE);
        Ok(())
    }

    /// A line for the guest's port for messages about pressure.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn tell_pressure(&mut self, line: &[u8]) -> Result<(), PortClosed> {
        let console = self.virtio.console.as_mut().ok_or(PortClosed)?;
        console.device.tell_pressure(line)?;
        self.take_wishes(CONSOLE);
        Ok(())
    }

    /// The guest's balloon.
    #[must_use]
    pub fn balloon(&self) -> Option<&Balloon> {
        self.virtio.balloon.as_ref().map(|balloon| &balloon.device)
    }

    /// The guest's memory that can be plugged.
    #[must_use]
    pub fn mem(&self) -> Option<&Mem> {
        self.virtio.mem.as_ref().map(|mem| &mem.device)
    }

    /// The guest's virtio console.
    #[must_use]
    pub fn console(&self) -> Option<&Console> {
        self.virtio.console.as_ref().map(|console| &console.device)
    }

    /// The guest's disk.
    #[must_use]
    pub fn block(&self) -> Option<&Block> {
        self.virtio.block.as_ref().map(|block| &block.device)
    }

    /// The guest's source of random bytes.
    #[must_use]
    pub fn entropy(&self) -> Option<&Entropy> {
        self.virtio.entropy.as_ref().map(|entropy| &entropy.device)
    }

    /// The virtio devices that there are, in the order of the bus.
    pub fn virtio_functions(&self) -> impl Iterator<Item = FunctionView> {
        NAMES.into_iter().zip(1..).filter_map(|(name, device)| {
            let place = usize::from(device) - 1;
            let (function, endpoint) = (self.pci.function(place)?, self.virtio.endpoint(place)?);
            let view = FunctionView {
                uses_msix: function.uses_msix(),
                ..endpoint.view(name, device)
            };
            Some(view)
        })
    }
}

//! All devices of one guest, their wiring, and the dispatch of its port accesses.

use pleat_types::{PortSize, Tsc};

use crate::GuestTime;
use crate::apic::{LocalApic, NEVER};
use crate::clock::TscRatio;
use crate::pci::{FIRST_PCI_PORT, PciBus};
use crate::pic::Pic;
use crate::pit::Pit;
use crate::rtc::Rtc;
use crate::uart::{Uart, Written};
use crate::virtio::{DeviceSet, VirtioSet};

mod virtio;

/// What a board is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BoardConfig {
    /// Ticks of the guest's TSC in a second.
    pub tsc_hz: u64,
    /// Wall clock at guest tick `start`: seconds since 1970, UTC.
    pub epoch: u64,
    /// The guest tick at which the board is switched on.
    pub start: Tsc,
    /// The virtio devices that it has.
    pub devices: DeviceSet,
}

/// What a port write asks of the board's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PortEffect {
    /// Nothing.
    None,
    /// The output buffer ends with a whole line, or is nearly full: drain it now ([`Board::output`]).
    OutputReady,
    /// A virtio device has something to do: [`Board::serve`].
    Kick,
    /// The driver has notified a queue: the owner calls serve, until [`Board::is_waiting`] says that the queue is done
    /// with.
    Notified(Notified),
    /// The guest resets its machine (port 0xCF9, or 0xFE to port 0x64).
    Reboot,
}

impl PortEffect {
    /// Whether the owner is to call [`Board::serve`].
    #[must_use]
    pub const fn wants_service(self) -> bool {
        matches!(self, Self::Kick | Self::Notified(_))
    }
}

/// A queue that its driver has notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notified {
    pub(crate) place: u8,
    pub(crate) queue: u8,
}

/// Whether an interrupt waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pending {
    /// None.
    None,
    /// This vector is to be delivered as soon as the guest can take an interrupt. It ends HLT.
    Vector(u8),
    /// This vector waits until the task priority falls below its class (`Vcpu::set_tpr_threshold`). It
    /// does not end HLT.
    MaskedByTpr(u8),
}

/// The console's input backlog is full; the byte was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsoleFull;

const PIT_IRQ: u8 = 0;
const UART_IRQ: u8 = 4;
/// Reset control: bit 2 going up resets the machine (PIIX3 datasheet, 2.5.4).
const RESET_CPU: u8 = 4;
/// The keyboard controller's command to pulse the reset line.
const PULSE_RESET: u8 = 0xfe;
/// The status of a keyboard controller that is not there: all ones but bit 1, "input buffer full". Linux waits
/// for that bit to fall, for up to 65,536 reads, before it asks for a reset (`kb_wait`). Bit 0, "output buffer
/// full", stays set, by which its driver finds out that there is nothing (`i8042_flush`).
const NO_KEYBOARD_CONTROLLER: u8 = 0xfd;
/// At most so many interrupts in a second from one periodic timer.
const TIMER_RATE_MAX: u64 = 50_000;
/// A deadline farther away than this (49 years at 3 GHz) never comes. It also keeps the conversion to host
/// ticks from wrapping.
const FAR: u64 = 1 << 62;

/// The devices of one guest. A reboot makes a new one.
#[derive(Clone, Debug)]
pub struct Board {
    pub(crate) apic: LocalApic,
    pic: Pic,
    pit: Pit,
    rtc: Rtc,
    uart: Uart,
    pci: PciBus,
    virtio: VirtioSet,
    reset_control: u8,
    unknown_ports: u64,
    tsc_hz: u64,
    /// The guest tick at which the board was switched on, seen from the guest's TSC as it runs now.
    pub(crate) origin: u64,
    /// IA32_TSC_ADJUST.
    pub(crate) tsc_adjust: u64,
}

impl Board {
    /// A board as firmware in virtual-wire mode leaves it.
    #[must_use]
    pub fn new(config: &BoardConfig) -> Self {
        let floor = config.tsc_hz / TIMER_RATE_MAX + 1;
        Self {
            apic: LocalApic::new(TscRatio::new(config.tsc_hz), floor),
            pic: Pic::new(VirtioSet::wires(&config.devices)),
            pit: Pit::new(config.tsc_hz, floor),
            rtc: Rtc::new(config.epoch),
            uart: Uart::new(),
            pci: PciBus::new(VirtioSet::identities(&config.devices)),
            virtio: VirtioSet::new(&config.devices),
            reset_control: 0,
            unknown_ports: 0,
            tsc_hz: config.tsc_hz,
            origin: config.start.0,
            tsc_adjust: 0,
        }
    }

    /// Board time at a guest tick. A time before the board existed counts as its beginning.
    #[inline]
    pub(crate) const fn time(&self, now: Tsc) -> GuestTime {
        let ticks = now.0.wrapping_sub(self.origin);
        GuestTime {
            ticks: if ticks >> 63 == 0 { ticks } else { 0 },
            tsc_hz: self.tsc_hz,
        }
    }

    /// IN: the value in the low bits (all ones where nothing answers).
    pub fn port_read(&mut self, port: u16, size: PortSize, now: Tsc) -> u32 {
        match (port, size) {
            // First, as a console polls this for each character.
            (0x3f8..=0x3ff, PortSize::Byte) => u32::from(self.read_uart(port & 7)),
            (0xcf9, PortSize::Byte) => u32::from(self.reset_control),
            (0xcf8..=0xcff, _) => self.read_config_space(port, size),
            (FIRST_PCI_PORT.., _) => self.read_window(port, size),
            (_, PortSize::Byte) => u32::from(self.read_byte(port, now)),
            // The ISA bus splits wider accesses into bytes at consecutive ports.
            _ => (0..size.bytes()).rev().fold(0, |value, lane| {
                value << 8 | u32::from(self.read_byte(port.wrapping_add(lane), now))
            }),
        }
    }

    /// OUT.
    pub fn port_write(&mut self, port: u16, size: PortSize, value: u32, now: Tsc) -> PortEffect {
        match (port, size) {
            (0x3f8..=0x3ff, PortSize::Byte) => self.write_uart(port & 7, low_byte(value)),
            (0xcf9, PortSize::Byte) => self.write_reset_control(low_byte(value)),
            (0xcf8..=0xcff, _) => self.write_config_space(port, size, value),
            (FIRST_PCI_PORT.., _) => self.write_window(port, size, value),
            (_, PortSize::Byte) => self.write_byte(port, low_byte(value), now),
            _ => {
                let mut effect = PortEffect::None;
                for lane in 0..size.bytes() {
                    let byte = low_byte(value >> (8 * lane));
                    match self.write_byte(port.wrapping_add(lane), byte, now) {
                        PortEffect::None => {}
                        PortEffect::OutputReady if effect == PortEffect::Reboot => {}
                        new => effect = new,
                    }
                }
                effect
            }
        }
    }

    fn read_byte(&mut self, port: u16, now: Tsc) -> u8 {
        match port {
            0x3f8..=0x3ff => self.read_uart(port & 7),
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => {
                self.advance(now);
                self.pic.read(port)
            }
            0x40..=0x43 | 0x61 => {
                self.advance(now);
                self.pit.read(port, self.time(now))
            }
            0x70 => self.rtc.selected(),
            0x71 => self.rtc.read(self.time(now)),
            0x64 => NO_KEYBOARD_CONTROLLER,
            // No keyboard controller; 0x80 and 0xed are where delays are spent.
            0x60 | 0x80 | 0xed => 0xff,
            _ => {
                self.unknown_ports += 1;
                0xff
            }
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Tsc) -> PortEffect {
        match port {
            0x3f8..=0x3ff => return self.write_uart(port & 7, value),
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => {
                self.advance(now);
                self.pic.write(port, value);
            }
            0x40..=0x43 | 0x61 => {
                self.advance(now);
                let time = self.time(now);
                if self.pit.write(port, value, time) {
                    self.pic.set_line(PIT_IRQ, self.pit.output(time));
                }
            }
            0x70 => self.rtc.select(value),
            0x71 => self.rtc.write(value),
            0x64 if value == PULSE_RESET => return PortEffect::Reboot,
            0x60 | 0x64 | 0x80 | 0xed => {}
            _ => self.unknown_ports += 1,
        }
        PortEffect::None
    }

    #[inline]
    fn read_uart(&mut self, offset: u16) -> u8 {
        let value = self.uart.read(offset);
        // Reading data, IIR and MSR takes a cause of the interrupt away; reading the others does nothing.
        if matches!(offset, 0 | 2 | 6) {
            self.pic.set_line(UART_IRQ, self.uart.has_interrupt());
        }
        value
    }

    #[inline]
    fn write_uart(&mut self, offset: u16, value: u8) -> PortEffect {
        let written = self.uart.write(offset, value);
        let has_interrupt = self.uart.has_interrupt();
        if written == Written::Register {
            self.pic.set_line(UART_IRQ, has_interrupt);
            return PortEffect::None;
        }
        if has_interrupt {
            // The line fell while the byte was on its way.
            self.pic.set_line(UART_IRQ, false);
            self.pic.set_line(UART_IRQ, true);
        }
        if written == Written::Drain {
            PortEffect::OutputReady
        } else {
            PortEffect::None
        }
    }

    fn write_reset_control(&mut self, value: u8) -> PortEffect {
        let is_rising = value & !self.reset_control & RESET_CPU != 0;
        self.reset_control = value & 0xe;
        if is_rising {
            PortEffect::Reboot
        } else {
            PortEffect::None
        }
    }

    /// The guest tick at which [`Board::advance`] has something to do next. As guest ticks are modulo 2^64,
    /// convert by wrapping subtraction of the offset, and compare in host ticks.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tsc> {
        let mut ticks = self.apic.deadline();
        if self.pic.is_open(PIT_IRQ) && self.apic.is_extint_open() {
            ticks = ticks.min(self.pit.deadline());
        }
        if ticks < FAR {
            Some(Tsc(self.origin.wrapping_add(ticks)))
        } else {
            None
        }
    }

    /// The guest tick at which a timer gives an interrupt that gets through to a processor at HLT with this
    /// task priority. A timer that fires at a masked vector wakes nobody, so nobody needs to look.
    #[must_use]
    pub fn next_wake_up(&self, tpr: u8) -> Option<Tsc> {
        let mut ticks = self.apic.waking_deadline(tpr);
        let has_pit = self.pit.deadline() != NEVER && self.apic.is_extint_open();
        if has_pit && self.pic.would_offer(PIT_IRQ) {
            ticks = ticks.min(self.pit.deadline());
        }
        if ticks < FAR {
            Some(Tsc(self.origin.wrapping_add(ticks)))
        } else {
            None
        }
    }

    /// Lets timers fire whose time has come: to be called before each [`Board::pending_interrupt`]. Cheap
    /// when nothing is due.
    #[inline]
    pub fn advance(&mut self, now: Tsc) {
        let time = self.time(now);
        self.apic.advance(time.ticks);
        if time.ticks >= self.pit.deadline() && self.pit.deadline() != NEVER {
            self.advance_pit(time);
        }
    }

    #[cold]
    fn advance_pit(&mut self, time: GuestTime) {
        if self.pit.advance(time) {
            self.pic.set_line(PIT_IRQ, false);
            self.pic.set_line(PIT_IRQ, true);
        }
    }

    /// The interrupt to deliver next, given the guest's task priority. The 8259s come first: what they
    /// offer through LVT0 = ExtINT is not subject to priority (SDM 10.8.4).
    #[inline]
    pub fn pending_interrupt(&self, tpr: u8) -> Pending {
        match self.offered_by_pic() {
            Some(vector) => Pending::Vector(vector),
            None => self.apic.pending(tpr),
        }
    }

    fn offered_by_pic(&self) -> Option<u8> {
        self.pic.offered().filter(|_| self.apic.is_extint_open())
    }

    /// The vector that [`Board::pending_interrupt`] gave is now being delivered (the INTA cycle): to be
    /// called right after it, with no other call in between.
    pub fn acknowledge(&mut self, vector: u8) {
        if self.offered_by_pic() == Some(vector) {
            self.pic.acknowledge();
        } else {
            self.apic.acknowledge(vector);
        }
    }

    /// A byte typed on the guest's console.
    ///
    /// # Errors
    /// The guest does not read: the backlog is full and the byte was dropped.
    pub fn receive(&mut self, byte: u8) -> Result<(), ConsoleFull> {
        if !self.uart.receive(byte) {
            return Err(ConsoleFull);
        }
        self.pic.set_line(UART_IRQ, self.uart.has_interrupt());
        Ok(())
    }

    /// What the guest wrote to its console since [`Board::clear_output`]. Drain it at
    /// [`PortEffect::OutputReady`], at HLT and when a time slice ends; what does not fit is lost and counted.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.uart.output()
    }

    /// Forgets the output that was drained.
    pub const fn clear_output(&mut self) {
        self.uart.clear_output();
    }

    /// Console bytes that were lost because nobody drained the buffer.
    #[must_use]
    pub const fn lost_output(&self) -> u64 {
        self.uart.lost()
    }

    /// Port accesses that nothing answered.
    #[must_use]
    pub const fn unknown_ports(&self) -> u64 {
        self.unknown_ports
    }
}

const fn low_byte(value: u32) -> u8 {
    (value & 0xff) as u8
}

#[cfg(test)]
mod tests;

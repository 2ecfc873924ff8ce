//! The hypercalls of our own test kernels (`pleat_types::hypercall`).

use crate::cpu::{Cpu, Resume};
use crate::memory::MemoryError;
use crate::output::{EventName, event_name};
use crate::stop::Stop;
use arrayvec::ArrayVec;
use pleat_types::hypercall::{
    EVENT, FINISH, INVALID, MEASURE, NULL, PRINT, TEXT_MAX, TSC_HZ, UNKNOWN, YIELD,
};
use pleat_types::{Event, Gpa, Gpr, Platform, Vcpu};

/// The result of a hypercall that succeeded.
const DONE: u64 = 0;

impl<P: Platform> Cpu<'_, P> {
    /// VMCALL.
    pub(crate) fn hypercall(&mut self) -> Resume {
        if self.vcpu.privilege() != 0 {
            return Resume::Inject(Event::InvalidOpcode);
        }
        let result = match self.vcpu.gpr(Gpr::Rax) {
            NULL => DONE,
            EVENT => self.event_call(),
            PRINT => self.print_call(),
            MEASURE => self.measure_call(),
            FINISH => return Resume::Stop(Stop::Finished(self.vcpu.gpr(Gpr::Rbx))),
            TSC_HZ => self.host.tsc_hz,
            YIELD => {
                self.vcpu.set_gpr(Gpr::Rax, DONE);
                return Resume::Yield;
            }
            _ => UNKNOWN,
        };
        if let (INVALID, Some(stop)) = (result, self.guest.lost) {
            return Resume::Stop(stop);
        }
        if result == INVALID && self.guest.memory.wanted().is_some() {
            // Its argument is in a page that is away: the same call again when that is back.
            return Resume::Fetch;
        }
        self.vcpu.set_gpr(Gpr::Rax, result);
        Resume::Next
    }

    fn event_call(&mut self) -> u64 {
        match self.name_argument() {
            Some(name) => {
                self.host.flush_output(self.guest);
                self.host.report_event(self.guest, name);
                DONE
            }
            None => INVALID,
        }
    }

    fn print_call(&mut self) -> u64 {
        match self.text_argument() {
            Some(text) => {
                self.host.print(self.guest, &text);
                DONE
            }
            None => INVALID,
        }
    }

    fn measure_call(&mut self) -> u64 {
        let value = self.vcpu.gpr(Gpr::Rdx);
        match self.name_argument() {
            Some(name) => {
                let record = self.host.record("measure").text("guest", self.guest.config.name);
                record.text("name", &name).number("value", value).end();
                DONE
            }
            None => INVALID,
        }
    }

    fn name_argument(&mut self) -> Option<EventName> {
        let text = self.text_argument()?;
        event_name(core::str::from_utf8(&text).ok()?)
    }

    /// The string argument; `None` if it is too long or not in the guest's RAM.
    fn text_argument(&mut self) -> Option<ArrayVec<u8, TEXT_MAX>> {
        let start = Gpa::new(self.vcpu.gpr(Gpr::Rbx));
        let length = self.vcpu.gpr(Gpr::Rcx);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= TEXT_MAX)?;
        if !self.guest.space.ram.contains(start, length) {
            return None;
        }
        let mut text = ArrayVec::from([0; TEXT_MAX]);
        text.truncate(bytes);
        match self.host.copy_out(&mut self.guest.memory, start, &mut text) {
            Ok(()) => Some(text),
            Err(MemoryError::Lost(slot)) => {
                self.guest.lost = Some(Stop::Lost(slot));
                None
            }
            Err(_) => None,
        }
    }
}

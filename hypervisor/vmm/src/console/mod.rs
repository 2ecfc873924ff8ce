//! The console: what a person types, and what the script says in a person's place.

mod command;
mod cooperation;
mod devices;
mod editor;
mod merging;
mod reclaim;
mod views;

pub(crate) use editor::Editor;

use crate::guest::Life;
use crate::run::Hypervisor;
use crate::stop::Stop;
use command::{Command, HELP, parse};
use editor::{Focus, Typed};
use pleat_bundle::config::TypedAt;
use pleat_types::Platform;

/// Typed bytes that are looked at between two time slices.
const BYTES_AT_ONCE: usize = 32;
const PROMPT: &[u8] = b"> ";

impl<P: Platform> Hypervisor<P> {
    /// Looks at what was typed, and whether there is room again for what guests print.
    pub(crate) fn poll_console(&mut self) {
        for slot in self.slots.iter_mut() {
            self.host.show_gap(&mut slot.guest);
        }
        for _ in 0..BYTES_AT_ONCE {
            let Some(byte) = self.host.platform.console_input() else {
                return;
            };
            self.typed(byte);
        }
    }

    fn typed(&mut self, byte: u8) {
        match self.editor.take(byte) {
            Typed::Nothing => {}
            Typed::Echo(text) => self.host.platform.console_write(text),
            Typed::EchoByte(byte) => self.host.platform.console_write(&[byte]),
            Typed::Command(line) => {
                self.host.platform.console_write(b"\r\n");
                self.command(&line);
                if self.editor.focus == Focus::Commands {
                    self.host.platform.console_write(PROMPT);
                }
            }
            Typed::ToGuest(index, byte) => self.type_at_guest(index, byte),
            Typed::Detached => self.detach(),
        }
    }

    fn type_at_guest(&mut self, index: usize, byte: u8) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.guest.has_news = true;
        let taken = match slot.guest.config.devices.typed_at {
            TypedAt::Serial => slot.guest.board.receive(byte),
            TypedAt::Virtio => slot.guest.board.receive_console(byte),
        };
        if taken.is_err() {
            // The terminal bell: the guest does not read.
            self.host.platform.console_write(b"\x07");
        }
        self.host.serve_for_a_while(&mut slot.guest);
    }

    /// Typed bytes are commands again.
    pub(crate) fn detach(&mut self) {
        self.host.attached = None;
        self.editor.focus = Focus::Commands;
        self.host.platform.console_write(b"\r\n[detached]\r\n> ");
    }

    /// Runs a command line.
    pub(crate) fn command(&mut self, line: &str) {
        match parse(line) {
            Ok(command) => self.obey(command),
            Err(error) => self.host.say(format_args!("{error}")),
        }
    }

    fn obey(&mut self, command: Command<'_>) {
        match command {
            Command::Help => self.help(),
            Command::Guests => self.show_guests(),
            Command::Stats => self.show_stats(),
            Command::Audit => self.show_audit(),
            Command::Quit => self.has_quit = true,
            Command::Ept(name) => self.with_guest(name, Self::show_ept),
            Command::Start(name) => self.with_guest(name, Self::start_by_hand),
            Command::Kill(name) => {
                self.with_guest(name, |hypervisor, index| hypervisor.end(index, Stop::Killed));
            }
            Command::Pause(name) => self.with_guest(name, Self::pause),
            Command::Resume(name) => self.with_guest(name, Self::resume),
            Command::Attach(name) => self.with_live_guest(name, Self::attach),
            Command::Type(name, text) => self.with_live_guest(name, |hypervisor, index| {
                let line = text.bytes().chain(core::iter::once(b'\r'));
                line.for_each(|byte| hypervisor.type_at_guest(index, byte));
            }),
            Command::Merge(what) => self.merge(what),
            Command::Pages => self.send_pages(),
            Command::Balloon(None) => self.show_balloons(),
            Command::Balloon(Some((name, mib))) => {
                self.with_live_guest(name, |hypervisor, index| hypervisor.set_balloon(index, mib));
            }
            Command::Mem(None) => self.show_memory(),
            Command::Mem(Some((name, mib))) => {
                self.with_live_guest(name, |hypervisor, index| hypervisor.set_memory(index, mib));
            }
            Command::Promises => self.show_promises(),
            Command::Pressure(None) => self.show_pressure(),
            Command::Pressure(Some((name, level))) => {
                self.with_guest(name, |hypervisor, index| hypervisor.set_pressure(index, level));
            }
            Command::Age(name) => self.with_guest(name, Self::show_age),
            Command::Swap => self.show_swap(),
            Command::Reclaim(switch) => self.reclaim(switch),
            Command::Why(name) => self.with_guest(name, Self::show_why_taken),
            Command::Devices(name) => self.with_guest(name, Self::show_devices),
            Command::Crash(how) => self.host.platform.provoke(how),
        }
    }

    fn help(&mut self) {
        for (name, argument, text) in HELP {
            self.host.say(format_args!("  {name:<8} {argument:<6} {text}"));
        }
    }

    /// Does something to the guest with this name.
    fn with_guest(&mut self, name: &str, act: impl FnOnce(&mut Self, usize)) {
        let index = self.guests().position(|guest| guest.config.name == name);
        match index {
            Some(index) => act(self, index),
            None => {
                self.host
                    .say(format_args!("there is no guest `{name}`; there are:"));
                for slot in self.slots.iter() {
                    self.host.say(format_args!("  {}", slot.guest.config.name));
                }
            }
        }
    }

    /// Does something to the guest with this name if it is up.
    fn with_live_guest(&mut self, name: &str, act: impl FnOnce(&mut Self, usize)) {
        self.with_guest(name, |hypervisor, index| {
            let guest = &hypervisor.slots[index].guest;
            let name = guest.config.name;
            match guest.life {
                Life::Unstarted | Life::Starting => hypervisor.host.say(format_args!(
                    "guest `{name}` has not been started: `start {name}`"
                )),
                Life::Ended(_) => hypervisor
                    .host
                    .say(format_args!("guest `{name}` has ended: {}", guest.reason)),
                _ => act(hypervisor, index),
            }
        });
    }

    fn start_by_hand(&mut self, index: usize) {
        if self.slots[index].guest.life == Life::Unstarted {
            self.slots[index].guest.life = Life::Starting;
        } else {
            let name = self.slots[index].guest.config.name;
            self.host
                .say(format_args!("guest `{name}` has been started before"));
        }
    }

    fn pause(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.guest.is_paused = slot.guest.is_up();
        self.scheduler.wait(index);
        self.host.say(format_args!(
            "guest `{}` is {}",
            slot.guest.config.name,
            slot.guest.activity()
        ));
    }

    fn resume(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.guest.is_paused = false;
        self.end_suspension(index, "a person wants it");
        let Some(slot) = self.slots.get(index) else { return };
        if slot.guest.life == Life::Running {
            self.scheduler.wake(index);
        }
        self.host.say(format_args!(
            "guest `{}` is {}",
            slot.guest.config.name,
            slot.guest.activity()
        ));
    }

    fn attach(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let name = slot.guest.config.name;
        self.host.attached = Some(index);
        self.editor.focus = Focus::Guest(index);
        self.host
            .say(format_args!("[attached to `{name}`; Ctrl-] detaches]"));
    }
}

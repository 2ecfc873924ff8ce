//! Guests that end: each step rewound, and all of what they held comes back exactly once.

use std::vec::Vec;

use super::memory::FakeMemory;
use super::op::GFNS;
use super::oracle::{self, View};
use super::world::{Guest, World, check_owners, settle};
use crate::flush::Retired;
use crate::parts::Part;
use pleat_types::Hfn;

impl World {
    /// A guest dies while the others live, and another takes its place.
    pub fn replace(&mut self, who: usize) {
        let new = Guest::new(&mut self.memory);
        self.guests.push(new);
        self.take_down(who);
        // The new one is the last; it goes where the old one was.
        let new = self.guests.pop().unwrap();
        self.guests.insert(who, new);
        self.check_shares();
    }

    /// Takes a guest down, rewinding each step, and checks that all came back exactly once.
    fn take_down(&mut self, who: usize) {
        let (others, foreign) = self.others(who);
        let dying = self.guests.remove(who);
        let root = dying.stage2.root();
        let mut teardown = dying.stage2.teardown();
        let mut owned = dying.owned;
        loop {
            self.memory.take_log();
            let views = |memory: &FakeMemory| GFNS.map(|gfn| oracle::view(memory, root, gfn));
            let before = views(&self.memory);
            let Some(pending) = teardown.step(&mut self.memory).unwrap() else {
                break;
            };
            let log = self.memory.take_log();
            let mut last = None;
            for store in log.iter().rev() {
                assert!(!foreign.contains(&store.table()));
                let now = views(&self.memory);
                self.memory.undo(*store);
                if last == Some(now) {
                    continue;
                }
                last = Some(now);
                let is_known = |(view, old): (View, View)| view == old || view == View::Absent(0);
                assert!(now.into_iter().zip(before).all(is_known), "{now:x?}");
                check_owners(now.iter().chain(&others));
            }
            assert_eq!(views(&self.memory), before);
            log.iter().for_each(|store| self.memory.redo(*store));
            for retired in settle(pending).retired {
                match retired {
                    Retired::Table(table) => self.memory.release(table),
                    Retired::Share(share) => self.take_back_share(share.frame()),
                    Retired::Slot(reference) => self.take_back_reference(&reference),
                    Retired::Parts(parts) => panic!("a teardown takes out {parts:?}"),
                    Retired::Frame(frame) => assert!(owned.remove(&(frame.first().get(), frame.size()))),
                }
            }
        }
        assert_eq!(*teardown.stage2().counters(), crate::Counters::default());
        assert!(owned.is_empty(), "lost: {owned:x?}");
    }

    /// Takes all guests down.
    pub fn end(mut self) {
        while !self.guests.is_empty() {
            self.take_down(0);
            self.check_shares();
        }
        assert!(self.shares.is_empty(), "lost: {:x?}", self.shares);
        assert!(self.slots.is_empty(), "lost: {:x?}", self.slots);
        assert_eq!(self.memory.live_tables(), 0);
    }

    /// What came out of a flush goes back, once.
    pub fn take_back(&mut self, who: usize, retired: Retired) {
        match retired {
            Retired::Table(table) => self.memory.release(table),
            Retired::Frame(frame) => {
                let key = (frame.first().get(), frame.size());
                assert!(self.guests[who].owned.remove(&key), "{key:x?} given back twice");
            }
            Retired::Share(share) => self.take_back_share(share.frame()),
            Retired::Slot(reference) => self.take_back_reference(&reference),
            Retired::Parts(parts) => {
                let mut had = Vec::new();
                let table = parts.drain(&mut self.memory, |_, part| had.push(part));
                self.memory.release(table.expect("a table of pages"));
                for part in had {
                    let retired = match part {
                        Part::Frame(frame) => Retired::Frame(frame),
                        Part::Share(share) => Retired::Share(share),
                        Part::Slot(reference) => Retired::Slot(reference),
                    };
                    self.take_back(who, retired);
                }
            }
        }
    }

    pub fn take_back_share(&mut self, frame: Hfn) {
        let left = self.shares.get_mut(&frame.get()).expect("a share too many");
        *left -= 1;
        if *left == 0 {
            self.shares.remove(&frame.get());
        }
    }
}

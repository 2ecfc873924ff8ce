//! Giving memory back: garbage is spread over all chunks, so what is left is moved together first.

use super::Heap;
use super::cells::{CHUNK_BYTES, CHUNK_CELLS, NONE, state};

impl Heap {
    /// Collects, moves the cells in use to the front, and gives all chunks behind them back to the kernel. Returns how
    /// many bytes that were. Handles that are not in roots are void afterwards.
    pub fn shrink(&mut self) -> usize {
        let live = self.mark();
        // Less than `fresh`, which is a 32-bit number.
        let live = u32::try_from(live).unwrap_or(self.fresh);
        let garbage = (live..self.fresh).chain(0..live);
        let garbage = garbage.filter(|index| self.arena.cell(*index).state == state::USED);
        self.counters.freed_cells += garbage.count() as u64;
        self.move_down(live);
        self.follow(live);
        let had = self.arena.chunks();
        self.arena.shrink((live as usize).div_ceil(CHUNK_CELLS));
        self.free = NONE;
        self.fresh = live;
        let released = (had - self.arena.chunks()) * CHUNK_BYTES;
        self.counters.released_bytes += released as u64;
        released
    }

    /// Two fingers: one looks from the front for a place, one from the back for a cell in use. As many cells are in use
    /// behind the bound as there are places before it.
    fn move_down(&mut self, live: u32) {
        let mut place = 0;
        for index in (live..self.fresh).rev() {
            let cell = *self.arena.cell(index);
            if cell.state != state::MARKED {
                continue;
            }
            while self.arena.cell(place).state == state::MARKED {
                place += 1;
            }
            *self.arena.cell_mut(place) = cell;
            let old = self.arena.cell_mut(index);
            old.state = state::MOVED;
            old.links[0] = place;
        }
    }

    /// Roots and links to cells that have moved follow them; the marks are taken away.
    fn follow(&mut self, live: u32) {
        let moved = |heap: &Self, index: u32| {
            if index == NONE || index < live {
                return index;
            }
            heap.arena.cell(index).links[0]
        };
        for root in 0..self.roots.len() {
            self.roots[root] = moved(self, self.roots[root]);
        }
        for index in 0..live {
            let links = self.arena.cell(index).links.map(|link| moved(self, link));
            let cell = self.arena.cell_mut(index);
            cell.links = links;
            cell.state = state::USED;
        }
    }
}

//! Everything that can write to a page. Each writer has pages of its own, so that each of its first writes meets
//! a page that is still merged.

use pleat_guest::{apic, check, cpu, store, trap};

use crate::arena::{Arena, CODE, OPERAND, PAGE};
use crate::model::Source;

/// Offsets into a page: aligned, not aligned, and (for the last) up to its end.
const OFFSETS: [usize; 5] = [0, 1, 2047, 4051, PAGE];

/// MOV, MOVDQU and VMOVDQU.
pub(crate) fn sizes(arena: &mut Arena<'_>) {
    for &size in store::sizes() {
        for offset in OFFSETS {
            let place = arena.take(1) + offset.min(PAGE - size);
            plain(arena, place, size);
        }
    }
}

fn plain(arena: &mut Arena<'_>, place: usize, size: usize) {
    let source = arena.fresh();
    let bytes: [u8; 32] = Arena::bytes(source, place);
    arena.write(place, size, source, |address| {
        store::bytes(address, &bytes[..size]);
    });
}

/// One instruction that writes to two pages: both merged, the first, or the second.
pub(crate) fn across_pages(arena: &mut Arena<'_>) {
    for &size in &store::sizes()[1..] {
        for before in [1, size / 2, size - 1] {
            for private in [None, Some(0), Some(1)] {
                let first = arena.take(2);
                if let Some(page) = private {
                    arena.make_private(first + page * PAGE);
                }
                plain(arena, first + PAGE - before, size);
            }
        }
    }
}

/// REP MOVSB up and down over several pages, from memory that is this guest's own.
pub(crate) fn strings(arena: &mut Arena<'_>) {
    let ways: [fn(u64, u64, u64); 2] = [store::copy, store::copy_down];
    for copy in ways {
        let (place, len) = (arena.take(4) + 100, 3 * PAGE);
        let source = arena.fresh();
        let from = arena.scratch(|index| source.byte(index, place + index));
        arena.write(place, len, source, |to| copy(to, from, len as u64));
    }
}

/// REP STOSQ from the middle of a page to the middle of the next but one.
pub(crate) fn words(arena: &mut Arena<'_>) {
    let (place, len) = (arena.take(3) + PAGE / 2, 2 * PAGE);
    let value: [u8; 8] = Arena::bytes(arena.fresh(), place);
    let source = Source::Bytes(core::array::from_fn(|index| value[index % 8]));
    let value = u64::from_le_bytes(value);
    arena.write(place, len, source, |to| {
        store::fill_words(to, value, len as u64 / 8);
    });
}

/// REP MOVSQ from one merged page to another.
pub(crate) fn merged_to_merged(arena: &mut Arena<'_>) {
    let (from, to) = (arena.take(2), arena.take(2));
    let (source, from) = (Source::Page(arena.content(from)), arena.address(from));
    arena.write(to, PAGE, source, |to| {
        store::copy_words(to, from, PAGE as u64 / 8);
    });
}

/// XADD, within a page and across two; CMPXCHG16B that succeeds, and one that fails and writes all the same; MOVNTI.
pub(crate) fn locked(arena: &mut Arena<'_>) {
    for place in [arena.take(1) + 64, arena.take(2) + PAGE - 3] {
        let before = u64::try_from(arena.value(place, 8)).unwrap_or(0);
        let source = arena.fresh();
        let after = u64::from_le_bytes(Arena::bytes(source, place));
        let mut found = 0;
        arena.write(place, 8, source, |address| {
            found = store::exchange_add(address, after.wrapping_sub(before));
        });
        check!(found == before, "XADD found {found:#x}, not {before:#x}");
    }
    for is_expected in [true, false] {
        let place = arena.take(1) + 1024;
        let before = arena.value(place, 16);
        let after: [u8; 16] = Arena::bytes(arena.fresh(), place);
        let left = if is_expected {
            u128::from_le_bytes(after)
        } else {
            before
        };
        let expected = if is_expected { before } else { !before };
        let mut has_succeeded = !is_expected;
        arena.write(place, 16, Source::Bytes(left.to_le_bytes()), |address| {
            has_succeeded = store::compare_exchange(address, expected, u128::from_le_bytes(after));
        });
        check!(
            has_succeeded == is_expected,
            "CMPXCHG16B: {has_succeeded}, must be {is_expected}"
        );
    }
    let place = arena.take(1) + 8;
    let source = arena.fresh();
    let value = u64::from_le_bytes(Arena::bytes(source, place));
    arena.write(place, 8, source, |address| store::past_caches(address, value));
}

/// PUSH and CALL on merged stacks, within a page and across two.
pub(crate) fn stacks(arena: &mut Arena<'_>) {
    for top in [arena.take(1) + PAGE, arena.take(2) + PAGE + 4] {
        let source = arena.fresh();
        let value = u64::from_le_bytes(Arena::bytes(source, top - 8));
        arena.write(top - 8, 8, source, |address| store::push(address + 8, value));
    }
    let top = arena.take(1) + PAGE;
    let mut pushed = 0;
    let address = arena.address(top - PAGE) + PAGE as u64;
    arena.writes.time(|| pushed = store::call_on_stack(address));
    arena.note(top - 8, 8, Source::Bytes((u128::from(pushed)).to_le_bytes()));
}

/// Interrupts that push onto merged stacks: INT, and one of the APIC, which the host delivers; within a page and
/// across two.
pub(crate) fn interrupts(arena: &mut Arena<'_>) {
    let ways: [fn(); 2] = [store::software_interrupt, own_interrupt];
    for interrupt in ways {
        if !apic::is_usable() {
            break;
        }
        for top in [arena.take(1) + PAGE, arena.take(2) + PAGE + 32] {
            let address = arena.address(top - 32) + 32;
            let before = trap::fast_count();
            trap::set_interrupt_stack(address);
            arena.writes.time(interrupt);
            trap::set_interrupt_stack(trap::interrupt_stack_top());
            check!(
                trap::fast_count() == before + 1,
                "an interrupt was lost, or came twice"
            );
            let (selectors, code) = (cpu::peek_u64(address - 8), cpu::peek_u64(address - 32));
            check!(
                (selectors, code) == (0x10, 8),
                "an interrupt pushed SS {selectors:#x} and CS {code:#x}"
            );
            // What else it pushed depends on where it came: overwritten with what is known.
            let source = arena.fresh();
            let bytes: [u8; PUSHED] = Arena::bytes(source, top - PUSHED);
            store::string_of_bytes(address - PUSHED as u64, &bytes);
            arena.note(top - PUSHED, PUSHED, source);
        }
    }
}

/// Bytes that the processor and the least handler push.
const PUSHED: usize = 64;

fn own_interrupt() {
    cpu::write_msr(apic::SELF_IPI, u64::from(trap::FAST_VECTOR));
    cpu::enable_interrupts();
    cpu::disable_interrupts();
}

/// Code that lies in a merged page and changes the operand of its own next instruction.
pub(crate) fn code(arena: &mut Arena<'_>) {
    for place in [CODE, CODE + PAGE] {
        let address = arena.address(place);
        let value = u32::from_le_bytes(Arena::bytes(arena.fresh(), place));
        let mut code = modify_itself(OPERAND);
        let old = store::call_code(address + MOV_EAX as u64);
        check!(old == OPERAND, "code in a merged page returns {old:#x}");
        // The first instruction writes what it holds itself: the operand of the second one.
        let mut found = 0;
        arena.writes.time(|| found = store::call_code(address));
        code[MOV_EAX + 1..MOV_EAX + 5].copy_from_slice(&NEW_OPERAND.to_le_bytes());
        arena.note(place, code.len(), Source::Bytes(code));
        check!(
            found == NEW_OPERAND,
            "code that modified itself returns {found:#x}"
        );
        // And what the guest writes into its code is what runs next.
        store::bytes(address + MOV_EAX as u64 + 1, &value.to_le_bytes());
        code[MOV_EAX + 1..MOV_EAX + 5].copy_from_slice(&value.to_le_bytes());
        arena.note(place, code.len(), Source::Bytes(code));
        let found = store::call_code(address + MOV_EAX as u64);
        check!(
            found == value,
            "code that was written returns {found:#x}, not {value:#x}"
        );
    }
}

const NEW_OPERAND: u32 = 0x2222_2222;
/// Where the second instruction starts.
const MOV_EAX: usize = 10;

/// mov dword ptr [rip + 1], NEW_OPERAND (behind it comes the opcode, then the operand); mov eax, `operand`; ret.
pub(crate) fn modify_itself(operand: u32) -> [u8; 16] {
    let mut code = [0xc7, 0x05, 1, 0, 0, 0, 0, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3];
    code[6..10].copy_from_slice(&NEW_OPERAND.to_le_bytes());
    code[11..15].copy_from_slice(&operand.to_le_bytes());
    code
}

//! Fields of the VMCS, typed by their width, and access to those of the current VMCS.
//!
//! The width is in the encoding itself (SDM vol. 3, appendix B: bits 14:13), so a field that is declared
//! with a wrong type does not compile.

use core::arch::asm;
use core::marker::PhantomData;

use pleat_types::Hpa;

use crate::processor;

/// A type that fields of one width hold.
pub trait Width: Copy {
    /// Bits 14:13 of the encodings of this width.
    const CODE: u32;
    /// From the register that VMREAD filled.
    fn from_register(value: u64) -> Self;
    /// To the register that VMWRITE takes.
    fn to_register(self) -> u64;
}

/// A field of natural width: 64 bits on every processor that Pleat runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Natural(pub u64);

macro_rules! width {
    ($type:ty, $code:literal) => {
        impl Width for $type {
            const CODE: u32 = $code;
            #[inline]
            #[allow(clippy::cast_possible_truncation)] // the processor clears the bits above the width
            fn from_register(value: u64) -> Self {
                value as Self
            }
            #[inline]
            fn to_register(self) -> u64 {
                self.into()
            }
        }
    };
}

width!(u16, 0);
width!(u64, 1);
width!(u32, 2);

impl Width for Natural {
    const CODE: u32 = 3;
    #[inline]
    fn from_register(value: u64) -> Self {
        Self(value)
    }
    #[inline]
    fn to_register(self) -> u64 {
        self.0
    }
}

/// A field of the VMCS that holds a `T`.
pub struct Field<T> {
    encoding: u32,
    width: PhantomData<T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Field<T> {}

impl<T: Width> Field<T> {
    /// The field with this encoding; refuses one of another width when it is compiled.
    pub const fn new(encoding: u32) -> Self {
        assert!(encoding >> 13 & 3 == T::CODE, "the encoding is of another width");
        Self {
            encoding,
            width: PhantomData,
        }
    }
}

/// Declares fields by name: `NAME = source constant: type`.
macro_rules! fields {
    ($($name:ident: $type:ty = $encoding:expr;)*) => {
        $(#[doc = concat!("SDM vol. 3, appendix B: ", stringify!($encoding))]
        pub const $name: Field<$type> = Field::new($encoding);)*
    };
}

/// The fields that Pleat uses.
pub mod field {
    use super::{Field, Natural};
    use x86::vmx::vmcs::{control, guest, host, ro};

    fields! {
        VPID: u16 = control::VPID;
        DIRTY_LOG_INDEX: u16 = guest::PML_INDEX;
        MSR_BITMAP: u64 = control::MSR_BITMAPS_ADDR_FULL;
        DIRTY_LOG: u64 = control::PML_ADDR_FULL;
        TSC_OFFSET: u64 = control::TSC_OFFSET_FULL;
        VIRTUAL_APIC: u64 = control::VIRT_APIC_ADDR_FULL;
        EPTP: u64 = control::EPTP_FULL;
        PIN_CONTROLS: u32 = control::PINBASED_EXEC_CONTROLS;
        PRIMARY_CONTROLS: u32 = control::PRIMARY_PROCBASED_EXEC_CONTROLS;
        SECONDARY_CONTROLS: u32 = control::SECONDARY_PROCBASED_EXEC_CONTROLS;
        EXCEPTION_BITMAP: u32 = control::EXCEPTION_BITMAP;
        EXIT_CONTROLS: u32 = control::VMEXIT_CONTROLS;
        ENTRY_CONTROLS: u32 = control::VMENTRY_CONTROLS;
        ENTRY_EVENT: u32 = control::VMENTRY_INTERRUPTION_INFO_FIELD;
        ENTRY_ERROR_CODE: u32 = control::VMENTRY_EXCEPTION_ERR_CODE;
        ENTRY_INSTRUCTION_LENGTH: u32 = control::VMENTRY_INSTRUCTION_LEN;
        TPR_THRESHOLD: u32 = control::TPR_THRESHOLD;
        CR0_MASK: Natural = control::CR0_GUEST_HOST_MASK;
        CR4_MASK: Natural = control::CR4_GUEST_HOST_MASK;
        CR0_SHADOW: Natural = control::CR0_READ_SHADOW;
        CR4_SHADOW: Natural = control::CR4_READ_SHADOW;

        INSTRUCTION_ERROR: u32 = ro::VM_INSTRUCTION_ERROR;
        EXIT_REASON: u32 = ro::EXIT_REASON;
        EXIT_EVENT: u32 = ro::VMEXIT_INTERRUPTION_INFO;
        EXIT_ERROR_CODE: u32 = ro::VMEXIT_INTERRUPTION_ERR_CODE;
        VECTORING_EVENT: u32 = ro::IDT_VECTORING_INFO;
        VECTORING_ERROR_CODE: u32 = ro::IDT_VECTORING_ERR_CODE;
        INSTRUCTION_LENGTH: u32 = ro::VMEXIT_INSTRUCTION_LEN;
        GUEST_PHYSICAL_ADDRESS: u64 = ro::GUEST_PHYSICAL_ADDR_FULL;
        QUALIFICATION: Natural = ro::EXIT_QUALIFICATION;

        LINK_POINTER: u64 = guest::LINK_PTR_FULL;
        DEBUG_CONTROL: u64 = guest::IA32_DEBUGCTL_FULL;
        PAT: u64 = guest::IA32_PAT_FULL;
        EFER: u64 = guest::IA32_EFER_FULL;
        GDTR_LIMIT: u32 = guest::GDTR_LIMIT;
        IDTR_LIMIT: u32 = guest::IDTR_LIMIT;
        GDTR_BASE: Natural = guest::GDTR_BASE;
        IDTR_BASE: Natural = guest::IDTR_BASE;
        INTERRUPTIBILITY: u32 = guest::INTERRUPTIBILITY_STATE;
        ACTIVITY: u32 = guest::ACTIVITY_STATE;
        SYSENTER_CS: u32 = guest::IA32_SYSENTER_CS;
        SYSENTER_ESP: Natural = guest::IA32_SYSENTER_ESP;
        SYSENTER_EIP: Natural = guest::IA32_SYSENTER_EIP;
        PREEMPTION_TIMER: u32 = guest::VMX_PREEMPTION_TIMER_VALUE;
        PENDING_DEBUG: Natural = guest::PENDING_DBG_EXCEPTIONS;
        CR0: Natural = guest::CR0;
        CR3: Natural = guest::CR3;
        CR4: Natural = guest::CR4;
        DR7: Natural = guest::DR7;
        RSP: Natural = guest::RSP;
        RIP: Natural = guest::RIP;
        RFLAGS: Natural = guest::RFLAGS;
        SS_RIGHTS: u32 = guest::SS_ACCESS_RIGHTS;

        HOST_PAT: u64 = host::IA32_PAT_FULL;
        HOST_EFER: u64 = host::IA32_EFER_FULL;
        HOST_SYSENTER_CS: u32 = host::IA32_SYSENTER_CS;
        HOST_CR0: Natural = host::CR0;
        HOST_CR3: Natural = host::CR3;
        HOST_CR4: Natural = host::CR4;
        HOST_FS_BASE: Natural = host::FS_BASE;
        HOST_GS_BASE: Natural = host::GS_BASE;
        HOST_TR_BASE: Natural = host::TR_BASE;
        HOST_GDTR_BASE: Natural = host::GDTR_BASE;
        HOST_IDTR_BASE: Natural = host::IDTR_BASE;
        HOST_SYSENTER_ESP: Natural = host::IA32_SYSENTER_ESP;
        HOST_SYSENTER_EIP: Natural = host::IA32_SYSENTER_EIP;
        HOST_RIP: Natural = host::RIP;
        HOST_ES: u16 = host::ES_SELECTOR;
        HOST_CS: u16 = host::CS_SELECTOR;
        HOST_SS: u16 = host::SS_SELECTOR;
        HOST_DS: u16 = host::DS_SELECTOR;
        HOST_FS: u16 = host::FS_SELECTOR;
        HOST_GS: u16 = host::GS_SELECTOR;
        HOST_TR: u16 = host::TR_SELECTOR;
    }

    /// The four fields of one guest segment register.
    #[derive(Clone, Copy)]
    pub struct SegmentFields {
        /// Visible part.
        pub selector: Field<u16>,
        /// Base address.
        pub base: Field<Natural>,
        /// Limit.
        pub limit: Field<u32>,
        /// Access rights.
        pub rights: Field<u32>,
    }

    /// The fields of the guest segment register with this number, in the order of
    /// [`pleat_types::SegmentName`]: ES, CS, SS, DS, FS, GS, LDTR, TR (appendix B keeps that order).
    pub const fn segment(number: u32) -> SegmentFields {
        assert!(number < 8, "there are eight segment registers");
        SegmentFields {
            selector: Field::new(guest::ES_SELECTOR + 2 * number),
            base: Field::new(guest::ES_BASE + 2 * number),
            limit: Field::new(guest::ES_LIMIT + 2 * number),
            rights: Field::new(guest::ES_ACCESS_RIGHTS + 2 * number),
        }
    }
}

/// The current VMCS of this processor. It is the only way to VMREAD and VMWRITE, borrows the virtual
/// processor whose VMCS it is, and stays on its processor (not `Send`).
#[derive(Clone, Copy)]
pub struct CurrentVmcs<'a> {
    region: u64,
    owner: PhantomData<(&'a (), *const ())>,
}

impl<'a> CurrentVmcs<'a> {
    /// Makes the VMCS in the frame at `region` current.
    ///
    /// # Safety
    /// The frame is a VMCS region of this processor that was cleared with [`clear`], lives as long as
    /// `'a`, and VMX is on.
    pub unsafe fn load(region: Hpa) -> Self {
        let address = region.get();
        // SAFETY: the caller vouches for the region.
        unsafe { asm!("vmptrld [{}]", "jbe {}", in(reg) &address, label { refused("VMPTRLD") }) }
        Self {
            region: region.get(),
            owner: PhantomData,
        }
    }

    /// The VMCS that `load` made current before, by the bookkeeping of `make_current` in vcpu.rs.
    #[inline]
    pub(super) fn already(region: Hpa) -> Self {
        Self {
            region: region.get(),
            owner: PhantomData,
        }
    }

    /// Reads a field.
    #[inline]
    pub fn read<T: Width>(self, field: Field<T>) -> T {
        debug_assert!(
            processor::this().has_current(self.region),
            "another VMCS is current"
        );
        let (value, is_refused): (u64, u8);
        // SAFETY: a VMCS is current; the field's encoding was checked when it was declared.
        unsafe {
            asm!("vmread {}, {}", "setbe {}", out(reg) value, in(reg) u64::from(field.encoding),
                 out(reg_byte) is_refused, options(nomem, nostack));
        }
        if is_refused != 0 {
            refused("VMREAD");
        }
        T::from_register(value)
    }

    /// Writes a field.
    #[inline]
    pub fn write<T: Width>(self, field: Field<T>, value: T) {
        debug_assert!(
            processor::this().has_current(self.region),
            "another VMCS is current"
        );
        // SAFETY: as for `read`; what the processor does with a wrong value is to refuse the VM entry.
        unsafe {
            asm!("vmwrite {}, {}", "jbe {}", in(reg) u64::from(field.encoding), in(reg) value.to_register(),
                 label { refused("VMWRITE") }, options(nostack));
        }
    }
}

/// Initialises the VMCS region in a frame, or ends its use (SDM 25.11.3).
///
/// # Safety
/// The frame is a VMCS region with its revision identifier in place, and VMX is on.
pub unsafe fn clear(region: Hpa) {
    let address = region.get();
    // SAFETY: the caller vouches for the region.
    unsafe { asm!("vmclear [{}]", "jbe {}", in(reg) &address, label { refused("VMCLEAR") }) }
}

/// Enters VMX operation with the region in the frame at `region`.
///
/// # Safety
/// The frame is a VMXON region of Pleat's own; the conditions of SDM 24.7 hold.
pub unsafe fn vmxon(region: Hpa) {
    let address = region.get();
    // SAFETY: the caller vouches for the region and the state.
    unsafe { asm!("vmxon [{}]", "jbe {}", in(reg) &address, label { refused("VMXON") }) }
}

/// Which translations INVEPT or INVVPID drop.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Scope {
    SingleContext = 1,
}

/// Drops all translations that come from the tables of this EPTP (SDM 29.4.3.1).
pub fn invept(eptp: u64) {
    let descriptor = [eptp, 0];
    // SAFETY: dropping cached translations never hurts memory; the type was found at start-up.
    unsafe {
        asm!("invept {}, [{}]", "jbe {}", in(reg) Scope::SingleContext as u64, in(reg) &descriptor,
             label { refused("INVEPT") });
    }
}

/// Drops all translations tagged with this VPID.
pub fn invvpid(vpid: u16) {
    let descriptor = [u64::from(vpid), 0];
    // SAFETY: as for `invept`.
    unsafe {
        asm!("invvpid {}, [{}]", "jbe {}", in(reg) Scope::SingleContext as u64, in(reg) &descriptor,
             label { refused("INVVPID") });
    }
}

/// A VMX instruction that Pleat gives is refused only when Pleat itself is wrong.
#[cold]
fn refused(instruction: &str) -> ! {
    panic!("the processor refused {instruction}");
}

//! Bits of the interruption-information fields (SDM table 25-17).

/// The event is to be delivered.
pub const VALID: u32 = 1 << 31;
/// It pushes an error code.
pub const ERROR_CODE: u32 = 1 << 11;
/// Type 3: a hardware exception.
pub const EXCEPTION: u32 = 3 << 8;
/// The bits that name type and vector, and whether there is an error code.
pub const IDENTITY: u32 = 0xfff;
/// The type field.
pub const TYPE: u32 = 7 << 8;
/// Type 4: INT n. Types from here on need the instruction's length.
pub const SOFTWARE: u32 = 4 << 8;

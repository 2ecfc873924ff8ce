//! The memory functions that the compiler calls.

use pleat_freestanding as _;

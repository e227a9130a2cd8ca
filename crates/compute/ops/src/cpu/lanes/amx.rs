//! AMX: matrix tiles of x86-64 (Sapphire Rapids and later). Their intrinsics are not stable in Rust; assembly is.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use super::bf16::Bf16;
use super::rows::Run;
use super::tiles::{SIDE, TileUnit};

/// Whether processor and system have tiles of `bf16`, and lend them to this process.
pub(crate) fn available() -> bool {
    static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_tiles() && ask_system())
}

#[allow(unsafe_code)]
fn processor_has_tiles() -> bool {
    /// The system saves extended states.
    const OSXSAVE: u32 = 1 << 27;
    /// AMX-BF16 and AMX-TILE.
    const TILES: u32 = 1 << 22 | 1 << 24;
    /// Of tile configuration and data.
    const STATES: u64 = 1 << 17 | 1 << 18;

    #[target_feature(enable = "xsave")]
    unsafe fn states() -> u64 {
        // SAFETY: XGETBV exists where the caller has found OSXSAVE.
        unsafe { _xgetbv(0) }
    }
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & TILES != TILES {
        return false;
    }
    // SAFETY: OSXSAVE was found.
    unsafe { states() & STATES == STATES }
}

/// Linux lends the large state of tiles to processes that ask.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn ask_system() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn ask_system() -> bool {
    false
}

/// Makes all tiles 16 rows of 64 bytes, on this thread.
///
/// # Safety
/// [`available`] was true.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn configure() {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    config.row_bytes[..8].fill(64);
    config.rows[..8].fill(16);
    // SAFETY: the caller's condition; the instruction reads 64 bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) }
}

/// Gives the tiles back, so that switching threads is cheap again.
///
/// # Safety
/// [`available`] was true.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) unsafe fn release() {
    // SAFETY: the caller's condition.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code)]
mod stand_in;

/// The processor's tiles: 0 to 3 are sums, 4 and 5 positions, 6 and 7 channels.
pub(crate) struct Hardware;

#[allow(unsafe_code)]
impl TileUnit for Hardware {
    #[inline(always)]
    unsafe fn product<const P: usize, const V: usize>(runs: &[Run<Bf16>], mut weights: *const Bf16, at: usize, to: *mut f32) {
        // Bytes from group to group of weights, and from position to position of sums: 16 channels of 4 bytes each.
        let row = V * 64;
        // SAFETY: the conditions of the trait: a tile reads 16 rows of 64 bytes. The compiler knows no tiles, so nothing but
        // these instructions touches them, and they stay in order, being volatile.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
            for run in runs {
                let step = run.step * size_of::<Bf16>();
                let mut from = run.from.add(at * run.step);
                for _ in 0..run.groups / SIDE {
                    asm!("tileloadd tmm6, [{w} + {row}*1]", "tileloadd tmm4, [{x} + {step}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                        w = in(reg) weights, row = in(reg) row, x = in(reg) from, step = in(reg) step, options(nostack, readonly));
                    if P == 2 {
                        asm!("tileloadd tmm5, [{x} + {step}*1]", "tdpbf16ps tmm2, tmm5, tmm6",
                            x = in(reg) from.add(SIDE * run.step), step = in(reg) step, options(nostack, readonly));
                    }
                    if V == 2 {
                        asm!("tileloadd tmm7, [{w} + {row}*1]", "tdpbf16ps tmm1, tmm4, tmm7",
                            w = in(reg) weights.add(2 * SIDE), row = in(reg) row, options(nostack, readonly));
                    }
                    if P == 2 && V == 2 {
                        asm!("tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem));
                    }
                    from = from.add(2 * SIDE);
                    weights = weights.add(2 * SIDE * SIDE * V);
                }
            }
            asm!("tilestored [{to} + {row}*1], tmm0", to = in(reg) to, row = in(reg) row, options(nostack));
            if V == 2 {
                asm!("tilestored [{to} + {row}*1], tmm1", to = in(reg) to.add(SIDE), row = in(reg) row, options(nostack));
            }
            if P == 2 {
                asm!("tilestored [{to} + {row}*1], tmm2", to = in(reg) to.add(SIDE * SIDE * V), row = in(reg) row, options(nostack));
            }
            if P == 2 && V == 2 {
                let to = to.add(SIDE * SIDE * V + SIDE);
                asm!("tilestored [{to} + {row}*1], tmm3", to = in(reg) to, row = in(reg) row, options(nostack));
            }
        }
    }
}

//! Runs the instructions of AMX where there are none: the processor refuses them, and the handler of that signal does what they do. On
//! machines that have them nothing stands in, and the same tests run on the tiles themselves.

use std::cell::RefCell;
use std::sync::Once;

use super::super::arithmetic::{Element as _, Kernels as _, Lane, Work};
use super::super::bf16::{Bf16, Bf16Path};
use super::super::rows::{Products, Run};
use super::super::tiles::SIDE;
use super::available;

#[derive(Clone, Copy)]
struct Tiles {
    configured: bool,
    /// Rows of 32-bit places.
    values: [[[u32; SIDE]; SIDE]; 8],
}

thread_local! {
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles { configured: false, values: [[[0; SIDE]; SIDE]; 8] }) };
}

/// Has this process's AMX instructions done by [`execute`], unless the processor does them.
fn stand_in() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if available() {
            return;
        }
        // SAFETY: an all-zero action is a valid one, and the handler is a function of the kind that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0);
        }
    });
}

extern "C" fn handle(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system hands over the registers of the thread, which stands at an instruction that the processor has refused.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let code = registers[libc::REG_RIP as usize] as *const u8;
        match TILES.with_borrow_mut(|tiles| execute(tiles, std::slice::from_raw_parts(code, 10), registers)) {
            Some(length) => registers[libc::REG_RIP as usize] += length,
            None => libc::abort(),
        }
    }
}

/// The register of that number in instructions.
fn register(registers: &[i64; 23], number: u8) -> usize {
    use libc::{REG_R8, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP};
    let at = match number {
        0..=7 => [REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI][usize::from(number)],
        _ => REG_R8 + i32::from(number - 8),
    };
    registers[at as usize] as usize
}

/// Does an instruction of AMX and tells its length; none if it is another one, or one that the processor would refuse too.
///
/// # Safety
/// It may touch the memory that the instruction names.
unsafe fn execute(tiles: &mut Tiles, code: &[u8], registers: &[i64; 23]) -> Option<i64> {
    // Three bytes of VEX in the map 0F 38, 128 bits wide and W = 0; the operation; its operands.
    let &[0xc4, first, second, operation, modrm, ..] = code else { return None };
    if first & 0x1f != 2 || second & 0x84 != 0 {
        return None;
    }
    let (prefix, third) = (second & 3, usize::from(!second >> 3 & 15));
    let (kind, tile, other) = (modrm >> 6, usize::from(modrm >> 3 & 7), usize::from(modrm & 7));
    let base_of = |low: u8| register(registers, low | (!first >> 5 & 1) << 3);
    match (operation, prefix, kind) {
        // ldtilecfg: [register] alone.
        (0x49, 0, 0) if tile == 0 && other != 4 && other != 5 => {
            // SAFETY: it reads 64 bytes.
            let config = unsafe { std::slice::from_raw_parts(base_of(modrm & 7) as *const u8, 64) };
            let whole =
                config[0] == 1 && config[1] == 0 && (0..8).all(|i| config[16 + 2 * i..18 + 2 * i] == [64, 0] && config[48 + i] == 16);
            tiles.configured = whole;
            whole.then_some(5)
        }
        _ if !tiles.configured => None,
        (0x49, 0, 3) if modrm == 0xc0 => {
            tiles.configured = false;
            Some(5)
        }
        (0x49, 3, 3) => {
            tiles.values[tile] = [[0; SIDE]; SIDE];
            Some(5)
        }
        // tileloadd, tilestored: a base, and an index that is the step from row to row; no displacement unless of a byte.
        (0x4b, 2 | 3, 0 | 1) if other == 4 => {
            let sib = code[5];
            let displacement = if kind == 1 { code[6] as i8 as isize } else { 0 };
            let index = register(registers, sib >> 3 & 7 | (!first >> 6 & 1) << 3) << (sib >> 6);
            let base = base_of(sib & 7).wrapping_add_signed(displacement);
            for (row, values) in tiles.values[tile].iter_mut().enumerate() {
                let memory = (base + row * index) as *mut [u32; SIDE];
                // SAFETY: a row of 64 bytes.
                unsafe { if prefix == 3 { *values = memory.read_unaligned() } else { memory.write_unaligned(*values) } }
            }
            Some(6 + i64::from(kind))
        }
        (0x5c, 2, 3) => {
            let (a, b) = (tiles.values[other], tiles.values[third]);
            let parts = |pair: u32| [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)];
            for (m, sums) in tiles.values[tile].iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    for k in 0..SIDE {
                        let ([a0, a1], [b0, b1]) = (parts(a[m][k]), parts(b[k][n]));
                        *sum = (f32::from_bits(*sum) + a0 * b0 + a1 * b1).to_bits();
                    }
                }
            }
            Some(5)
        }
        _ => None,
    }
}

/// A row of products, by one way.
struct Row<'a> {
    runs: &'a [Run<Bf16>],
    weights: &'a [Bf16],
    lanes: usize,
    width: usize,
    to: &'a mut [f32],
}

impl Work<Bf16> for Row<'_> {
    unsafe fn run<L: Lane<Element = Bf16>>(self) {
        assert_eq!(self.to.len(), self.width * self.lanes);
        let mut sink = Products { to: self.to.as_mut_ptr(), lanes: self.lanes };
        // SAFETY: the test's runs and weights, and room for all positions.
        unsafe { L::row(self.runs, self.weights, self.lanes, self.width, &mut sink) };
    }
}

/// Small numbers, so that no order of sums rounds.
fn numbers(seed: usize, len: usize) -> Vec<Bf16> {
    (0..len).map(|i| Bf16::narrow(((i * 7 + seed * 13 + i / 5) % 17) as f32 - 8.0)).collect()
}

/// Rows of every way to fill tiles: one or two of positions, one or two of channels, of some runs of some groups.
#[test]
fn rows_by_tiles_are_those_of_plain_arithmetic() {
    if Bf16Path::current() == Bf16Path::Software {
        references::skipped("rows by tiles: this processor has no AVX-512 BF16, which the path with AMX needs too");
        return;
    }
    stand_in();
    for width in [1, 15, 16, 17, 32, 33, 50] {
        for lanes in [16, 32] {
            for groups in [&[16][..], &[32, 16], &[16, 48, 16]] {
                let step = 40;
                let all: usize = groups.iter().sum();
                let values: Vec<Vec<Bf16>> = groups.iter().enumerate().map(|(i, &n)| numbers(i, (width + 32) * step + 2 * n)).collect();
                let runs: Vec<Run<Bf16>> =
                    values.iter().zip(groups).map(|(values, &groups)| Run { from: values.as_ptr(), step, groups }).collect();
                let weights = numbers(9, 2 * lanes * all);
                let [expected, found] = [Bf16Path::Software, Bf16Path::Amx].map(|path| {
                    let mut to = vec![f32::NAN; width * lanes];
                    // SAFETY: the processor has AVX-512 BF16, and AMX or what stands in for it; runs and weights are long enough.
                    unsafe { Bf16::dispatch(path, Row { runs: &runs, weights: &weights, lanes, width, to: &mut to }) };
                    to
                });
                assert_eq!(found, expected, "{width} positions, {lanes} channels, runs of {groups:?}");
            }
        }
    }
}

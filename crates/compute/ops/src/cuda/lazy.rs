//! CUDA's libraries, loaded at the first call of one of their functions instead of at the program's start.
//!
//! cudarc links them, so that a program would not even start where they are missing. Here every function that cudarc
//! declares is defined anew: it jumps to the function of that name in the library, which its first call loads and looks up.
//! In a library that cannot be loaded every function returns the library's code for not being usable.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use candle_core::{Result, bail};

/// A library, and what stands in for its functions when it is missing.
struct Library {
    file: &'static CStr,
    /// Returns a status.
    missing: extern "C" fn() -> i32,
    /// The library as the loader knows it, or why it cannot be had.
    loaded: OnceLock<std::result::Result<Handle, String>>,
}

struct Handle(*mut c_void);
// SAFETY: the loader's handles may be used by every thread.
#[allow(unsafe_code)]
unsafe impl Send for Handle {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Handle {}

impl Library {
    const fn new(file: &'static CStr, missing: extern "C" fn() -> i32) -> Self {
        Self { file, missing, loaded: OnceLock::new() }
    }

    #[allow(unsafe_code)]
    fn load(&self) -> &std::result::Result<Handle, String> {
        self.loaded.get_or_init(|| {
            // SAFETY: the name ends in a zero. What the library does when it is loaded is trusted, as it was when it was linked.
            let handle = unsafe { libc::dlopen(self.file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(Handle(handle));
            }
            // SAFETY: after a failure the loader's message is a string, or null if another thread has taken it.
            let message = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text).to_string_lossy().into_owned()) };
            Err(message.unwrap_or_else(|| format!("{:?} cannot be loaded", self.file)))
        })
    }
}

/// A function of a library: where it is, once it has been looked up.
#[repr(C)]
struct Function {
    address: AtomicPtr<c_void>,
    name: &'static CStr,
    library: &'static Library,
    /// Whether it returns a text and not a status.
    text: bool,
}

impl Function {
    const fn new(library: &'static Library, name: &'static CStr, text: bool) -> Self {
        Self { address: AtomicPtr::new(std::ptr::null_mut()), name, library, text }
    }
}

extern "C" fn missing_text() -> *const c_char {
    c"the library is missing".as_ptr()
}

/// Finds where a function is, for this call and all later ones.
#[allow(unsafe_code)]
extern "C" fn look_up(function: &Function) -> *mut c_void {
    let address = match function.library.load() {
        // SAFETY: the handle is the loader's, and the name ends in a zero.
        Ok(handle) => unsafe { libc::dlsym(handle.0, function.name.as_ptr()) },
        Err(_) => std::ptr::null_mut(),
    };
    let address = match address.is_null() {
        false => address,
        true if function.text => missing_text as extern "C" fn() -> *const c_char as *mut c_void,
        true => function.library.missing as *mut c_void,
    };
    function.address.store(address, Ordering::Release);
    address
}

/// Reached by a jump from a function called for the first time, its `Function` in r11: keeps all that may hold arguments
/// (System V calling convention), looks the function up and goes on to it.
#[allow(unsafe_code)]
#[unsafe(naked)]
extern "C" fn look_up_and_go() {
    std::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        "push rax",
        "push r10",
        // The caller had the stack aligned to 16 bytes before its call; after ten words it is aligned again.
        "sub rsp, 128",
        "movups [rsp], xmm0",
        "movups [rsp + 16], xmm1",
        "movups [rsp + 32], xmm2",
        "movups [rsp + 48], xmm3",
        "movups [rsp + 64], xmm4",
        "movups [rsp + 80], xmm5",
        "movups [rsp + 96], xmm6",
        "movups [rsp + 112], xmm7",
        "mov rdi, r11",
        "call {look_up}",
        "mov r11, rax",
        "movups xmm0, [rsp]",
        "movups xmm1, [rsp + 16]",
        "movups xmm2, [rsp + 32]",
        "movups xmm3, [rsp + 48]",
        "movups xmm4, [rsp + 64]",
        "movups xmm5, [rsp + 80]",
        "movups xmm6, [rsp + 96]",
        "movups xmm7, [rsp + 112]",
        "add rsp, 128",
        "pop r10",
        "pop rax",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "pop rbp",
        "jmp r11",
        look_up = sym look_up,
    )
}

/// Defines a function of a library. Whatever its arguments are, they stay where they are.
macro_rules! function {
    ($library:ident, $function:ident, $text:literal) => {
        const _: () = {
            static FUNCTION: Function = {
                let Ok(name) = CStr::from_bytes_with_nul(concat!(stringify!($function), "\0").as_bytes()) else {
                    panic!("a name has no zeros");
                };
                Function::new(&$library, name, $text)
            };
            // SAFETY: nothing else defines the symbol: cudarc only declares it, and the linker takes a library's only where
            // there is none. The code changes no register but r11, which is nobody's between a call and the function called.
            #[allow(unsafe_code)]
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            extern "C" fn $function() {
                std::arch::naked_asm!(
                    "mov r11, [rip + {function}]", // the address stands first
                    "test r11, r11",
                    "jz 2f",
                    "jmp r11",
                    "2:",
                    "lea r11, [rip + {function}]",
                    "jmp {look_up_and_go}",
                    function = sym FUNCTION,
                    look_up_and_go = sym look_up_and_go,
                )
            }
        };
    };
}

macro_rules! library {
    ($library:ident, $file:literal, $missing:literal, [$($function:ident)*], [$($text:ident)*]) => {
        static $library: Library = {
            extern "C" fn missing() -> i32 {
                $missing
            }
            Library::new($file, missing)
        };
        $(function!($library, $function, false);)*
        $(function!($library, $text, true);)*
    };
}

include!(concat!(env!("OUT_DIR"), "/libraries.rs"));

/// The driver's `cuModuleLoadData`, which is not defined anew here but in `translated`.
///
/// # Safety
/// As of CUDA's function: the module's place must be writable, and the image PTX that ends in a zero, a cubin or a fatbin.
#[allow(unsafe_code)]
pub(super) unsafe fn module_load_data(module: *mut *mut c_void, image: *const c_void) -> i32 {
    static FUNCTION: Function = Function::new(&CUDA, c"cuModuleLoadData", false);
    // SAFETY: the driver declares it so; the function for a missing library takes no notice of arguments, which this
    // processor's calling convention allows.
    let function =
        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> i32>(look_up(&FUNCTION)) };
    // SAFETY: the condition of this function.
    unsafe { function(module, image) }
}

/// Loads what every computation needs, so that what is missing is named before anything is tried.
///
/// # Errors
/// When a library cannot be loaded.
pub(super) fn load() -> Result<()> {
    if let Err(message) = CUDA.load() {
        bail!("{message} (it comes with NVIDIA's driver)");
    }
    for library in [&CUBLAS, &CURAND, &CUDNN] {
        if let Err(message) = library.load() {
            bail!("{message} (there is a driver; put the folder of CUDA's libraries into LD_LIBRARY_PATH)");
        }
    }
    Ok(())
}

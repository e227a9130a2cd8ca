//! Kernels that were translated for GPUs beforehand, in place of their PTX.
//!
//! cudarc gives the driver PTX, which it translates at the first use, in every new container again. A build may put what comes of
//! that into the PTX, as a comment (`docker/nvcc`); it is handed to the driver here, which takes it if it fits the GPU.

use std::ffi::{CStr, c_char, c_void};

use super::lazy;

/// What a comment with a translation begins with; the rest of the line is base64.
const START: &[u8] = b"//fatbin ";
const SUCCESS: i32 = 0;

/// The driver's function of this name, as its callers know it.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> i32 {
    // SAFETY: an image is a text that ends in a zero, or binary code that begins with a word of four bytes which is not zero; the bytes
    // are compared one by one, and the first that differs ends it, so that no byte beyond a text's zero is read.
    let starts = START.iter().enumerate().all(|(at, &byte)| unsafe { *image.cast::<u8>().add(at) } == byte);
    if starts {
        // SAFETY: what begins with this is PTX, a text that ends in a zero.
        let text = unsafe { CStr::from_ptr(image.cast::<c_char>()) }.to_bytes();
        if let Some(code) = translation(text) {
            // SAFETY: `code` is a fatbin as CUDA's tools write it; the driver copies what it needs of it.
            let status = unsafe { lazy::module_load_data(module, code.as_ptr().cast()) };
            if status == SUCCESS {
                return status;
            }
        }
    }
    // There is none for this GPU: the driver translates the text, in which the comment is nothing.
    // SAFETY: the arguments are the caller's.
    unsafe { lazy::module_load_data(module, image) }
}

/// The translation in the first line of PTX.
fn translation(ptx: &[u8]) -> Option<Vec<u8>> {
    let line = ptx.strip_prefix(START)?.split(|&byte| byte == b'\n').next()?;
    let mut code = Vec::with_capacity(line.len() / 4 * 3);
    let (mut bits, mut n_bits) = (0_u32, 0);
    for &letter in line.iter().take_while(|&&letter| letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            code.push((bits >> n_bits) as u8);
        }
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_is_base64_in_the_first_line() {
        let code = |text: &str| translation(text.as_bytes()).map(|code| String::from_utf8(code).unwrap());
        for (text, expected) in [("Zm9vYmFy", "foobar"), ("Zm9vYmE=", "fooba"), ("Zm9vYg==", "foob"), ("", "")] {
            assert_eq!(code(&format!("//fatbin {text}\n.version 9.0\n")).as_deref(), Some(expected));
        }
        assert_eq!(code("//fatbin Zm9?\n"), None);
        assert_eq!(code(".version 9.0\n//fatbin Zm9v\n"), None);
    }
}

//! Kernels with the vectors that the machine has.

/// Defines a function that is compiled for 256-bit vectors too, which it takes where the machine has them. No operations are fused, so that
/// the bits are those of any other machine. What the body calls must be `#[inline(always)]` to share the vectors.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                #[allow(unsafe_code)]
                // SAFETY: the machine has these instructions.
                return unsafe { avx2($($arg),*) };
            }
            body($($arg),*)
        }
    };
}
pub(super) use wide;

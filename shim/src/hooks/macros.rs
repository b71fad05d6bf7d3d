//! The macro beside redhook: calls of a real that may be a cancellation point, with nothing of ours to unwind.

/// For each real, a function that calls it, or answers with a constant where this libc has none. The look-up
/// happens in an `extern "C"` function of its own, so that the frame below the real call has no landing pad.
macro_rules! or_unavailable {
    ($($real:ident => $name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $otherwise:expr;)*) => {$(
        unsafe extern "C" fn $name($($argument: $type),*) -> $answer {
            extern "C" fn found() -> Option<unsafe extern "C" fn($($type),*) -> $answer> {
                $real.get()
            }
            match found() {
                // SAFETY: the real function with the program's arguments.
                Some(real) => unsafe { real($($argument),*) },
                None => $otherwise,
            }
        }
    )*};
}

pub(super) use or_unavailable;

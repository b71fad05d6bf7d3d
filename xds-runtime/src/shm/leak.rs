//! Values that live as long as the process, without malloc: a hook may run where malloc must not be called.

use std::mem::{align_of, size_of};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Moves a value into a page of its own, for ever. `None` when the kernel has no page.
/// For rare, small things (a new mapping's description): each costs a page.
pub fn leak<T: Sync>(value: T) -> Option<&'static T> {
    const PAGE: usize = 4096;
    if size_of::<T>() > PAGE || align_of::<T>() > PAGE {
        return None;
    }
    // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing.
    let page = unsafe {
        mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()?
    };
    let place = page.cast::<T>();
    // SAFETY: the page is writable, large and aligned enough, and nobody else knows it.
    unsafe { place.write(value) };
    // SAFETY: initialised just now, never unmapped, shared from here on.
    Some(unsafe { &*place })
}

#[cfg(test)]
mod tests {
    use super::leak;

    #[test]
    fn a_leaked_value_is_the_value() {
        assert_eq!(leak([1_u64, 2, 3]), Some(&[1, 2, 3]));
    }
}

//! Memory of our own code: malloc's, and a small store of the library's own where malloc must not be called.
//!
//! connect(2) and its like are async-signal-safe: a handler may call them while the thread that it interrupted is
//! inside malloc. So what they decide runs in [`without_malloc`], where allocations come from the store: blocks in
//! static memory, taken and given back by one compare-and-swap. Everywhere else the store is what remains when malloc
//! has no memory: Rust would end the program. A thread of the runtime that then still has none stops for ever, and its
//! leadership ends with its heartbeat.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::core::process;

/// Paths and names are about as long.
const BLOCK: usize = 128;
/// Blocks that one word of the map stands for.
const GROUP: usize = u64::BITS as usize;
const GROUPS: usize = 32;

thread_local! {
    // Const and without destructor: a plain thread-local word.
    static SPARES_MALLOC: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decide` without a call of malloc: nothing that it allocates may stay, because the store is small.
pub fn without_malloc<T>(decide: impl FnOnce() -> T) -> T {
    let _restore = Restore(SPARES_MALLOC.replace(true));
    decide()
}

/// Runs `decide` with malloc, whatever a longjmp out of a signal handler left behind.
pub fn with_malloc<T>(decide: impl FnOnce() -> T) -> T {
    let _restore = Restore(SPARES_MALLOC.replace(false));
    decide()
}

struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        SPARES_MALLOC.set(self.0);
    }
}

struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;
static STORE: Store = Store::new();

// SAFETY: both parts give memory of the layout that is nobody else's, and each takes back only its own.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (first, spares) = match SPARES_MALLOC.get() {
            true => (STORE.take(layout), true),
            // SAFETY: as the caller promises.
            false => (unsafe { System.alloc(layout) }, false),
        };
        let place = match (first.is_null(), spares) {
            (false, _) => first,
            // SAFETY: as above.
            (true, true) => unsafe { System.alloc(layout) },
            (true, false) => STORE.take(layout),
        };
        if place.is_null() && process::is_runtime_thread() {
            stop();
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if STORE.owns(place) {
            STORE.give_back(place, layout);
        } else {
            // SAFETY: not the store's, so it came from malloc.
            unsafe { System.dealloc(place, layout) };
        }
    }
}

/// 1 once a thread of the runtime stopped for want of memory.
static STOPPED: AtomicU32 = AtomicU32::new(0);

/// Whether a thread of the runtime stopped for want of memory: another one would, too, and keep what it had.
pub fn has_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) != 0
}

/// Stops this thread, whose signals are blocked.
#[cold]
fn stop() -> ! {
    STOPPED.store(1, Ordering::Relaxed);
    let no_time = std::ptr::null::<libc::timespec>();
    loop {
        // SAFETY: waits for a word of ours that nobody changes.
        unsafe { libc::syscall(libc::SYS_futex, STOPPED.as_ptr(), libc::FUTEX_WAIT, 1, no_time) };
    }
}

#[repr(align(128))]
struct Blocks(UnsafeCell<[u8; GROUPS * GROUP * BLOCK]>);

// SAFETY: bytes are only given out, each to one owner at a time.
unsafe impl Sync for Blocks {}

/// The store. It has no lock: a fork or a longjmp in the middle loses a few blocks at most.
struct Store {
    blocks: Blocks,
    /// A bit for each block in use.
    used: [AtomicU64; GROUPS],
}

impl Store {
    const fn new() -> Self {
        Self {
            blocks: Blocks(UnsafeCell::new([0; GROUPS * GROUP * BLOCK])),
            used: [const { AtomicU64::new(0) }; GROUPS],
        }
    }

    fn base(&self) -> *mut u8 {
        self.blocks.0.get().cast()
    }

    fn owns(&self, place: *const u8) -> bool {
        (place as usize).wrapping_sub(self.base() as usize) < GROUPS * GROUP * BLOCK
    }

    /// Blocks in a row for a layout, as the low bits of a word; `None` = more than a group has.
    fn bits(layout: Layout) -> Option<u64> {
        let count = layout.size().div_ceil(BLOCK).max(1);
        (count <= GROUP && layout.align() <= BLOCK).then(|| u64::MAX >> (GROUP - count))
    }

    /// Memory of this layout; null when there is none.
    #[cold]
    fn take(&self, layout: Layout) -> *mut u8 {
        let Some(bits) = Self::bits(layout) else { return std::ptr::null_mut() };
        for (group, word) in self.used.iter().enumerate() {
            let place = |used: u64| (0..=bits.leading_zeros()).find(|shift| used & (bits << shift) == 0);
            let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |used| {
                place(used).map(|shift| used | (bits << shift))
            });
            if let Some(shift) = taken.ok().and_then(place) {
                return self.base().wrapping_add((group * GROUP + shift as usize) * BLOCK);
            }
        }
        std::ptr::null_mut()
    }

    #[cold]
    fn give_back(&self, place: *const u8, layout: Layout) {
        let index = (place as usize).wrapping_sub(self.base() as usize) / BLOCK;
        if let (Some(bits), Some(word)) = (Self::bits(layout), self.used.get(index / GROUP)) {
            word.fetch_and(!(bits << (index % GROUP)), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(store: &Store) -> u32 {
        store.used.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }

    #[test]
    fn what_is_allocated_without_malloc_is_the_stores_wherever_it_is_freed() {
        let mut text = without_malloc(|| "x".repeat(1000));
        assert!(STORE.owns(text.as_ptr()));
        text.push_str("grown by malloc");
        assert!(!STORE.owns(text.as_ptr()));
        let kept = with_malloc(|| without_malloc(|| String::from("kept")));
        assert!(STORE.owns(kept.as_ptr()) && !STORE.owns(String::from("malloc's").as_ptr()));
        let nested = without_malloc(|| with_malloc(|| vec![1_u8; 64]));
        assert!(!STORE.owns(nested.as_ptr()));
    }

    #[test]
    fn blocks_are_given_out_once_and_used_again() {
        let store = Box::new(Store::new());
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let mut places: Vec<*mut u8> = (0..GROUPS * GROUP).map(|_| store.take(layout(1))).collect();
        places.sort();
        places.dedup();
        assert_eq!((places.len(), places.contains(&std::ptr::null_mut())), (GROUPS * GROUP, false));
        assert!(store.take(layout(1)).is_null());
        places.iter().for_each(|place| store.give_back(*place, layout(1)));
        assert_eq!(in_use(&store), 0);
        let whole = store.take(layout(GROUP * BLOCK));
        assert!(store.owns(whole) && in_use(&store) == 64);
        store.give_back(whole, layout(GROUP * BLOCK));
        assert_eq!(in_use(&store), 0);
    }

    #[test]
    fn what_does_not_fit_is_mallocs() {
        let large = without_malloc(|| vec![7_u8; GROUP * BLOCK + 1]);
        assert!(!STORE.owns(large.as_ptr()));
    }

    #[test]
    fn threads_get_blocks_of_their_own() {
        std::thread::scope(|scope| {
            for byte in 0..8_u8 {
                scope.spawn(move || {
                    for size in 1..2000 {
                        let bytes = without_malloc(|| vec![byte; size % 700 + 1]);
                        assert!(bytes.iter().all(|found| *found == byte));
                    }
                });
            }
        });
    }
}

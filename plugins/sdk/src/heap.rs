//! Where a component's allocations come from: first a stretch of its initial memory, in order, then std's allocator.
//!
//! An instance lives for one call, so the columns that come in and the lists that go out need no allocator that takes
//! memory back. They lie in the initial memory because growing it costs more than most rules: the host makes each new page
//! accessible, and inaccessible again for the next call.
//!
//! Invariant: no byte of the stretch is handed out twice, hence each one is zero when it is.
//!
//! A rule that allocates without end leaves the stretch behind and goes on with an allocator that reuses memory.

use std::alloc::Layout;
use std::ops::Range;

/// Room for the columns of 10,000 members, what is decided about them, and a third as much again. The host clears it
/// after each call, used or not.
const STRETCH_BYTES: usize = 768 << 10;

/// The bytes of a stretch at `start` that a block of this layout gets when `used` bytes are gone.
fn place(start: usize, used: usize, layout: Layout) -> Option<Range<usize>> {
    let at = start.checked_add(used)?.checked_next_multiple_of(layout.align())?.checked_sub(start)?;
    let end = at.checked_add(layout.size())?;
    (end <= STRETCH_BYTES).then_some(at..end)
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "an allocator deals in raw memory")]
mod component {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::{Cell, UnsafeCell};

    use super::{STRETCH_BYTES, place};

    #[global_allocator]
    static HEAP: Heap = Heap { stretch: UnsafeCell::new([0; STRETCH_BYTES]), used: Cell::new(0) };

    struct Heap {
        stretch: UnsafeCell<[u8; STRETCH_BYTES]>,
        used: Cell<usize>,
    }

    // SAFETY: a component has one thread.
    unsafe impl Sync for Heap {}

    impl Heap {
        // One copy of it: a component should be small.
        #[inline(never)]
        fn take(&self, layout: Layout) -> Option<*mut u8> {
            let start = self.stretch.get().cast::<u8>();
            let bytes = place(start.addr(), self.used.get(), layout)?;
            self.used.set(bytes.end);
            Some(start.wrapping_add(bytes.start))
        }

        fn owns(&self, block: *mut u8) -> bool {
            block.addr().wrapping_sub(self.stretch.get().addr()) < STRETCH_BYTES
        }
    }

    // SAFETY: blocks of the stretch are aligned, do not overlap and stay for good; all others come from the system's
    // allocator and go back to it.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.take(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            self.take(layout).unwrap_or_else(|| unsafe { System.alloc_zeroed(layout) })
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            if !self.owns(block) {
                unsafe { System.dealloc(block, layout) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_wherever_the_stretch_lies_and_do_not_overlap() {
        let start = 0x10_0003;
        let mut used = 0;
        for (size, align) in [(1, 1), (7, 8), (80_000, 8), (3, 2), (1, 1), (24, 16)] {
            let bytes = place(start, used, layout(size, align)).unwrap();
            assert!(bytes.start >= used && bytes.len() == size && (start + bytes.start).is_multiple_of(align));
            used = bytes.end;
        }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_next_allocator() {
        assert_eq!(place(0, 0, layout(STRETCH_BYTES, 1)), Some(0..STRETCH_BYTES));
        assert_eq!(place(0, 1, layout(STRETCH_BYTES, 1)), None);
        assert_eq!(place(0, STRETCH_BYTES - 4, layout(4, 8)), None);
        assert_eq!(place(usize::MAX, 1, layout(1, 1)), None);
    }

    #[test]
    fn ten_thousand_members_fit() {
        let columns = [1, 2, 4, 2, 4, 1, 2, 8, 8, 4, 4, 4];
        let judgement = [1, 2, 4, 2];
        let bytes: usize = columns.iter().chain(&judgement).map(|each| each * 10_000).sum();
        assert!(bytes * 4 / 3 < STRETCH_BYTES);
    }
}

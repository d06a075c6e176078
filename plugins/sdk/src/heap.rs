//! Where a component's allocations come from: first a stretch of its initial memory, in order, then memory that it grows.
//!
//! An instance lives for one call, so the columns that come in and the lists that go out need no allocator that takes
//! memory back. They lie in the initial memory because growing it costs more than most rules: the host makes each new page
//! accessible, and inaccessible again for the next call.
//!
//! A rule that allocates without end leaves the stretch behind and goes on with blocks whose sizes are powers of two, which
//! are used again. std's own allocator would do it with less waste, and was a tenth of a small rule's code.
//!
//! Invariant: no byte of the stretch is handed out twice, hence each one is zero when it is.

use std::alloc::Layout;
use std::ops::Range;

/// Room for the columns of 10,000 members, what is decided about them, and a third as much again. The host clears it
/// after each call, used or not.
const STRETCH_BYTES: usize = 768 << 10;

/// The smallest block beyond the stretch: it has room for the link to the next free one.
const LEAST_BYTES: usize = 16;
/// Sizes of blocks beyond the stretch, each twice the one before; the largest is 2 GiB.
const SIZES: usize = 28;
/// The unit in which memory grows; no block is aligned to more.
const PAGE_BYTES: usize = 64 << 10;

/// The bytes of a stretch at `start` that a block of this layout gets when `used` bytes are gone.
fn place(start: usize, used: usize, layout: Layout) -> Option<Range<usize>> {
    let at = start.checked_add(used)?.checked_next_multiple_of(layout.align())?.checked_sub(start)?;
    let end = at.checked_add(layout.size())?;
    (end <= STRETCH_BYTES).then_some(at..end)
}

/// Which size of block takes this layout, and its bytes.
fn size(layout: Layout) -> Option<(usize, usize)> {
    let bytes = layout.size().max(layout.align()).max(LEAST_BYTES).checked_next_power_of_two()?;
    let index = (bytes / LEAST_BYTES).trailing_zeros() as usize;
    (index < SIZES && layout.align() <= PAGE_BYTES).then_some((index, bytes))
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "an allocator deals in raw memory")]
mod component {
    use std::alloc::{GlobalAlloc, Layout};
    use std::arch::wasm32::memory_grow;
    use std::cell::{Cell, UnsafeCell};
    use std::ptr::{null_mut, with_exposed_provenance_mut};

    use super::{PAGE_BYTES, SIZES, STRETCH_BYTES, place, size};

    #[global_allocator]
    static HEAP: Heap = Heap {
        stretch: UnsafeCell::new([0; STRETCH_BYTES]),
        used: Cell::new(0),
        free: [const { Cell::new(null_mut()) }; SIZES],
        fresh: Cell::new(0),
        end: Cell::new(0),
    };

    struct Heap {
        stretch: UnsafeCell<[u8; STRETCH_BYTES]>,
        used: Cell<usize>,
        /// The first free block of each size; it begins with the address of the next one.
        free: [Cell<*mut u8>; SIZES],
        /// Memory that was grown and belongs to no block yet.
        fresh: Cell<usize>,
        end: Cell<usize>,
    }

    // SAFETY: a component has one thread.
    unsafe impl Sync for Heap {}

    impl Heap {
        /// A block, and whether all of it is zero.
        // One copy of it: a component should be small.
        #[inline(never)]
        fn take(&self, layout: Layout) -> (*mut u8, bool) {
            let start = self.stretch.get().cast::<u8>();
            if let Some(bytes) = place(start.addr(), self.used.get(), layout) {
                self.used.set(bytes.end);
                return (start.wrapping_add(bytes.start), true);
            }
            let Some((index, bytes)) = size(layout) else { return (null_mut(), true) };
            let Some(free) = self.free.get(index) else { return (null_mut(), true) };
            let block = free.get();
            if !block.is_null() {
                // SAFETY: it is a free block of ours, at least as long as an address and aligned for one.
                free.set(unsafe { block.cast::<*mut u8>().read() });
                return (block, false);
            }
            (self.grow(bytes).map_or(null_mut(), with_exposed_provenance_mut), true)
        }

        /// The address of so many new bytes, a power of two; they are aligned to a page at most.
        fn grow(&self, bytes: usize) -> Option<usize> {
            let at = self.fresh.get().checked_next_multiple_of(bytes.min(PAGE_BYTES))?;
            let end = at.checked_add(bytes)?;
            if end <= self.end.get() {
                self.fresh.set(end);
                return Some(at);
            }
            let pages = bytes.div_ceil(PAGE_BYTES);
            let first = memory_grow::<0>(pages);
            if first == usize::MAX {
                return None;
            }
            let at = first * PAGE_BYTES;
            self.fresh.set(at + bytes);
            self.end.set(at + pages * PAGE_BYTES);
            Some(at)
        }

        fn owns(&self, block: *mut u8) -> bool {
            block.addr().wrapping_sub(self.stretch.get().addr()) < STRETCH_BYTES
        }
    }

    // SAFETY: blocks of the stretch are aligned, do not overlap and stay for good; the others are of a size of their own
    // each, aligned to it or to a page, and are handed out again only after they came back.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.take(layout).0
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            let (block, zero) = self.take(layout);
            if !zero && !block.is_null() {
                // SAFETY: it is a block of at least so many bytes.
                unsafe { block.write_bytes(0, layout.size()) };
            }
            block
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            if self.owns(block) {
                return;
            }
            let free = size(layout).and_then(|(index, _)| self.free.get(index));
            if let Some(free) = free {
                // SAFETY: the block is nobody's any more, and as long and aligned as `take` made it.
                unsafe { block.cast::<*mut u8>().write(free.get()) };
                free.set(block);
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
    fn blocks_beyond_it_have_sizes_that_are_powers_of_two() {
        for (bytes, align, expected) in [
            (0, 1, Some((0, 16))),
            (16, 8, Some((0, 16))),
            (17, 1, Some((1, 32))),
            (5, 64, Some((2, 64))),
            (80_000, 8, Some((13, 131_072))),
            (1 << 31, 1, Some((27, 1 << 31))),
            ((1 << 31) + 1, 1, None),
            (1, 2 * PAGE_BYTES, None),
        ] {
            assert_eq!(size(layout(bytes, align)), expected, "{bytes} {align}");
        }
    }

    #[test]
    fn ten_thousand_members_fit() {
        let columns = [1, 2, 4, 2, 4, 1, 2, 8, 8, 4, 4, 4];
        let judgement = [1, 2, 4, 2];
        let bytes: usize = columns.iter().chain(&judgement).map(|each| each * 10_000).sum();
        assert!(bytes * 4 / 3 < STRETCH_BYTES);
    }
}

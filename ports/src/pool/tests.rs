use super::*;

#[test]
fn hands_out_the_hot_buffer_first() {
    let mut pool = Pool::heap(4, 2048);
    let (a, b) = (pool.alloc().unwrap(), pool.alloc().unwrap());
    let (a_id, b_id) = (a.id(), b.id());
    pool.free(a);
    let a = pool.alloc().unwrap();
    assert_eq!(a.id(), a_id);
    pool.free(b);
    pool.free(a);
    let (a, b) = (pool.alloc().unwrap(), pool.alloc().unwrap());
    assert_eq!((a.id(), b.id()), (a_id, b_id));
    assert_eq!((pool.available(), pool.total()), (2, 4));
}

#[test]
fn is_bounded() {
    let mut pool = Pool::heap(2, 64);
    let held = (pool.alloc(), pool.alloc());
    assert!(held.0.is_some() && held.1.is_some());
    assert_eq!(pool.alloc(), None);
    assert_eq!(pool.alloc_frame(), None);
}

#[test]
fn beginnings_do_not_alias() {
    let sets = |mut pool: Pool, count: usize| {
        let mut sets = std::collections::HashSet::new();
        for _ in 0..count {
            let buf = pool.alloc().unwrap();
            sets.insert(pool.address(buf.id()) as usize / CACHE_LINE % 64);
        }
        sets.len()
    };
    for size in [64, 128, 2048, 4096, 65_536, BUF_SIZE] {
        assert_eq!(sets(Pool::heap(64, size), 64), 64, "size {size}");
    }
    // Whole pages apart, yet 32 sets while packets are of a usual size.
    assert_eq!(sets(Pool::umem(64, 0, 1518), 64), 32);
    assert_eq!(sets(Pool::umem(64, 0, 3498), 64), 4);
    assert_eq!(sets(Pool::umem(64, 0, 9000), 64), 1);
}

#[test]
fn buffers_are_disjoint() {
    for mut pool in [Pool::heap(3, 100), Pool::umem(3, 0, 1518)] {
        let bufs: Vec<_> = (0..3).map(|_| pool.alloc().unwrap()).collect();
        for (i, buf) in bufs.iter().enumerate() {
            pool.bytes_mut(buf.id()).fill(i as u8 + 1);
        }
        for (i, buf) in bufs.iter().enumerate() {
            assert!(pool.bytes(buf.id()).len() >= 100);
            assert!(pool.bytes(buf.id()).iter().all(|b| *b == i as u8 + 1));
        }
    }
}

#[test]
fn frames_follow_the_buffers_and_touch_nothing_else() {
    let mut pool = Pool::umem(2, 3, 1518);
    let (last, first) = (
        (pool.alloc().unwrap(), pool.alloc().unwrap()).1,
        pool.alloc_frame().unwrap(),
    );
    pool.bytes_mut(last.id()).fill(1);
    assert_eq!(pool.bytes(first.id()), [0; FRAME_SIZE]);
    pool.bytes_mut(first.id()).fill(2);
    assert!(pool.bytes(last.id()).iter().all(|b| *b == 1));
    let (base, size) = pool.region();
    assert_eq!(size, 2 * UMEM_STRIDE + 3 * FRAME_SIZE);
    assert_eq!(
        (
            base as usize % PAGE,
            pool.address(first.id()) as usize % PAGE
        ),
        (0, 0)
    );
    assert_eq!((pool.available(), pool.available_frames()), (0, 2));
}

#[test]
fn a_packet_of_the_largest_size_lies_in_one_chunk() {
    for largest in [60, 1518, 3498, FRAME_SIZE - HEADROOM] {
        let mut pool = Pool::umem(64, 1, largest);
        while let Some(buf) = pool.alloc() {
            let (off, len) = (HEADROOM as u32 - 70, largest as u32 + 70);
            assert!(pool.in_one_chunk(buf.id(), off, len), "{largest} {buf:?}");
            assert!(!pool.in_one_chunk(buf.id(), off, FRAME_SIZE as u32 + 1));
        }
        let frame = pool.alloc_frame().unwrap();
        assert!(pool.in_one_chunk(frame.id(), 0, FRAME_SIZE as u32));
        assert!(!pool.in_one_chunk(frame.id(), 1, FRAME_SIZE as u32));
    }
    let mut heap = Pool::heap(1, BUF_SIZE);
    let buf = heap.alloc().unwrap();
    assert!(!heap.in_one_chunk(buf.id(), 0, 60), "no UMEM at all");
}

#[test]
fn a_ring_has_a_buffer_until_it_gives_it_back() {
    let mut pool = Pool::umem(2, 2, 1518);
    let (buf, frame) = (pool.alloc().unwrap(), pool.alloc_frame().unwrap());
    let names = (buf.id(), frame.id());
    let (at, frame_at) = (pool.lend(buf, 0), pool.lend(frame, 1));
    let census = |pool: &Pool| {
        let c = pool.census();
        assert_eq!(c.total, c.free + c.held + c.in_rings);
        (c.free, c.held, c.in_rings)
    };
    assert_eq!(census(&pool), (2, 0, 2));
    assert_eq!(
        pool.slice(names.0, 0, 1),
        None,
        "its bytes are the kernel's"
    );
    assert!(!pool.copy(names.0, 0, names.1, 0, 1));
    assert_eq!(pool.reclaim(at, 1), None, "the other ring has it");
    let (buf, off) = pool.reclaim(at + 122, 0).unwrap();
    assert_eq!((buf.id(), off), (names.0, 122));
    assert_eq!(pool.reclaim(at, 0), None, "not twice");
    let (frame, off) = pool.reclaim(frame_at + 256, 1).unwrap();
    assert_eq!((frame.id(), off), (names.1, 256));
    assert_eq!(pool.reclaim(u64::MAX, 0), None);
    assert!(pool.slice(names.0, 0, 1).is_some());
    assert_eq!(census(&pool), (2, 2, 0));
    let _ = (pool.lend(buf, 0), pool.lend(frame, 1));
    assert_eq!((pool.reclaim_all(0), census(&pool)), (1, (3, 0, 1)));
    assert_eq!((pool.reclaim_all(1), census(&pool)), (1, (4, 0, 0)));
}

#[test]
#[should_panic(expected = "is not held")]
fn the_bytes_of_a_lent_buffer_cannot_be_had() {
    let mut pool = Pool::umem(1, 0, 1518);
    let buf = pool.alloc().unwrap();
    let name = buf.id();
    pool.lend(buf, 0);
    pool.bytes(name);
}

#[test]
fn copies_within_bounds_only() {
    let mut pool = Pool::heap(2, 128);
    let (a, b) = (pool.alloc().unwrap(), pool.alloc().unwrap());
    let (a, b) = (a.id(), b.id());
    pool.bytes_mut(a)[..4].copy_from_slice(b"abcd");
    assert!(pool.copy(a, 0, b, 124, 4));
    assert_eq!(&pool.bytes(b)[124..], b"abcd");
    assert!(!pool.copy(a, 0, b, 125, 4));
    assert!(!pool.copy(a, usize::MAX, b, 0, 4));
    assert!(!pool.copy(a, 0, BufId(2), 0, 4));
    assert!(pool.slice(a, 124, 4).is_some());
    assert!(pool.slice(a, 125, 4).is_none());
    assert!(pool.slice(a, u32::MAX, u32::MAX).is_none());
    assert!(pool.slice(BufId(9), 0, 1).is_none());
}

#[test]
#[cfg_attr(
    debug_assertions,
    should_panic(expected = "freed though it is not out")
)]
fn a_buffer_of_another_pool_is_refused() {
    let (mut pool, mut other) = (Pool::heap(2, 64), Pool::heap(2, 64));
    let stranger = other.alloc().unwrap();
    pool.free(stranger);
    assert_eq!((pool.refused_frees(), pool.available()), (1, 2));
}

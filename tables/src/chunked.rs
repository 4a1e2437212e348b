//! A persistent vector by number, for things larger than a hash slot: ports, peers, paths.
//!
//! Two dependent loads to an entry. Setting one copies the array of chunk pointers and one chunk
//! of 16 entries, unless this vector is the only owner. Numbers should be dense: storage goes by
//! the highest ever set.

use std::sync::Arc;

const CHUNK: usize = 16;

type Chunk<T> = Arc<[Option<T>; CHUNK]>;

/// A persistent vector with holes. Cloning is one reference count.
#[derive(Clone)]
pub struct Chunked<T> {
    chunks: Arc<[Option<Chunk<T>>]>,
    len: usize,
    /// All numbers below are in use.
    full_to: u32,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked {
            chunks: Arc::from([]),
            len: 0,
            full_to: 0,
        }
    }
}

impl<T: Clone> Chunked<T> {
    /// An empty vector.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries, holes not counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.as_ref()?[number % CHUNK].as_ref()
    }

    /// Sets an entry and returns the one that was there.
    pub fn set(&mut self, number: u32, value: T) -> Option<T> {
        let (given, number) = (number, number as usize);
        let at = number / CHUNK;
        if at >= self.chunks.len() {
            let holes = std::iter::repeat_n(None, at + 1 - self.chunks.len());
            self.chunks = self.chunks.iter().cloned().chain(holes).collect();
        }
        let chunk = Arc::make_mut(&mut self.chunks)[at]
            .get_or_insert_with(|| Arc::new(std::array::from_fn(|_| None)));
        let old = Arc::make_mut(chunk)[number % CHUNK].replace(value);
        self.len += usize::from(old.is_none());
        if given == self.full_to {
            self.full_to = self.first_free(given + 1);
        }
        old
    }

    /// Removes an entry and returns it.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        self.get(number)?;
        self.full_to = self.full_to.min(number);
        let number = number as usize;
        let slot = &mut Arc::make_mut(&mut self.chunks)[number / CHUNK];
        let chunk = slot.as_mut()?;
        let old = Arc::make_mut(chunk)[number % CHUNK].take();
        if chunk.iter().all(Option::is_none) {
            *slot = None;
        }
        self.len -= usize::from(old.is_some());
        old
    }

    /// All entries with their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let chunks = self
            .chunks
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some((i, c.as_ref()?)));
        chunks.flat_map(|(i, chunk)| {
            let slots = chunk.iter().enumerate();
            slots.filter_map(move |(j, slot)| Some(((i * CHUNK + j) as u32, slot.as_ref()?)))
        })
    }

    /// The lowest number not in use, at least `from`.
    pub fn lowest_free(&self, from: u32) -> u32 {
        self.first_free(from.max(self.full_to))
    }

    fn first_free(&self, from: u32) -> u32 {
        (from..)
            .find(|&number| self.get(number).is_none())
            .unwrap_or(u32::MAX)
    }

    /// Bytes of this vector that it does not share with `other`: what a change has copied.
    pub fn unshared_bytes(&self, other: &Self) -> usize {
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return 0;
        }
        let copied = self.chunks.iter().enumerate().filter(|(i, chunk)| {
            let theirs = other.chunks.get(*i).and_then(Option::as_ref);
            chunk
                .as_ref()
                .is_some_and(|ours| !theirs.is_some_and(|t| Arc::ptr_eq(ours, t)))
        });
        size_of_val(&*self.chunks) + copied.count() * size_of::<[Option<T>; CHUNK]>()
    }
}

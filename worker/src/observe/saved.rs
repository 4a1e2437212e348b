//! The first bytes of a frame as it came in, put aside before anything is rewritten.

/// Of the frame that came in last: at most `N` first bytes, and how long it was.
#[derive(Clone, Copy)]
pub(super) struct Saved<const N: usize> {
    pub(super) head: [u8; N],
    pub(super) head_len: usize,
    pub(super) len: usize,
}

impl<const N: usize> Default for Saved<N> {
    fn default() -> Self {
        Self {
            head: [0; N],
            head_len: 0,
            len: 0,
        }
    }
}

impl<const N: usize> Saved<N> {
    pub(super) fn keep(&mut self, head: &[u8], len: usize) {
        self.head_len = head.len().min(N);
        self.head[..self.head_len].copy_from_slice(&head[..self.head_len]);
        self.len = len;
    }

    /// The bytes, and how long the frame was.
    pub(super) fn both(&self) -> (&[u8], usize) {
        (&self.head[..self.head_len], self.len)
    }
}

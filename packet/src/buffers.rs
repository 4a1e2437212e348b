//! Packet buffers that somebody else owns, by name: what pure code sees of a pool.
//!
//! A payload is named by buffer number and offset. The crate `bytes` is not used for it: a
//! reference-counted handle would cost an atomic operation for each packet.

/// Buffers, each of them found by a name.
pub trait Buffers {
    /// Names a buffer; whoever has the buffers gives the names out.
    type Id: Copy;

    /// The whole buffer.
    ///
    /// # Panics
    /// If nobody holds a buffer of this name.
    fn bytes(&self, id: Self::Id) -> &[u8];

    /// The whole buffer, writable.
    ///
    /// # Panics
    /// If nobody holds a buffer of this name.
    fn bytes_mut(&mut self, id: Self::Id) -> &mut [u8];
}

/// A buffer each, by position.
impl Buffers for Vec<Vec<u8>> {
    type Id = usize;

    fn bytes(&self, id: usize) -> &[u8] {
        &self[id]
    }

    fn bytes_mut(&mut self, id: usize) -> &mut [u8] {
        &mut self[id]
    }
}

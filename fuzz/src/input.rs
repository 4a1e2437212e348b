//! A fuzzer's bytes, taken apart from the front; what is missing reads as zero.

pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Input(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    /// Everything left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A run of bytes with its length in front.
    pub(crate) fn frame(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16()).min(self.0.len());
        let (frame, rest) = self.0.split_at(len);
        self.0 = rest;
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_bytes_are_zero_and_lengths_are_bounded() {
        let mut input = Input::new(&[7, 0, 2, 8, 9, 0xff, 0xff, 1]);
        assert_eq!(input.u8(), 7);
        assert_eq!(input.frame(), [8, 9]);
        assert_eq!(input.frame(), [1]);
        assert!(input.is_empty());
        assert_eq!((input.u8(), input.u16(), input.frame().len()), (0, 0, 0));
    }
}

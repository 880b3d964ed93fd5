//! CRC32C (Castagnoli), once per connection over some hundred bytes: bit by bit, because a library's tables and machine
//! instructions would be more code than this is work.

/// The polynomial 0x1EDC6F41, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of `bytes` (RFC 3720, appendix B.4).
pub(super) fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    /// RFC 3720, appendix B.4: its examples, whose bytes are written there in the order they are sent.
    #[test]
    fn the_checksum_is_that_of_the_rfcs_examples() {
        let of = |bytes: &[u8]| crc32c(bytes.iter().copied()).to_le_bytes();
        assert_eq!(of(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(of(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(of(&(0..32).collect::<Vec<u8>>()), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(of(&(0..32).rev().collect::<Vec<u8>>()), [0x5c, 0xdb, 0x3f, 0x11]);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }
}

//! Kafka's frames, as far as the proxy reads them.

use std::io::Read;
use std::net::TcpStream;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const METADATA: i16 = 3;
pub const OFFSET_COMMIT: i16 = 8;
pub const FIND_COORDINATOR: i16 = 10;
pub const JOIN_GROUP: i16 = 11;
pub const HEARTBEAT: i16 = 12;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub const ADD_OFFSETS_TO_TXN: i16 = 25;
pub const END_TXN: i16 = 26;
pub const TXN_OFFSET_COMMIT: i16 = 28;

/// These distinguish requests.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Which API.
    pub key: i16,
    pub version: i16,
}

/// Length and body.
pub fn read_frame(mut stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = usize::try_from(u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]])).unwrap();
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

pub fn head(frame: &[u8]) -> Head {
    let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    Head { key: number(4), version: number(6) }
}

/// The error code of an answer, of those kinds that matter here: that of its first partition, where it has one for each.
pub fn error_code(head: Head, answer: &[u8]) -> Option<i16> {
    // Length and correlation id come first.
    let mut rest = Rest(answer.get(8..)?);
    match head.key {
        END_TXN | ADD_OFFSETS_TO_TXN if head.version < 3 => {
            rest.skip(4)?; // how long to hold back
            rest.short()
        }
        INIT_PRODUCER_ID => {
            rest.skip(if head.version >= 2 { 5 } else { 4 })?;
            rest.short()
        }
        OFFSET_COMMIT if head.version < 3 => None,
        OFFSET_COMMIT | TXN_OFFSET_COMMIT => {
            let is_flexible = head.version >= if head.key == OFFSET_COMMIT { 8 } else { 3 };
            // The head's tags, how long to hold back, how many topics (here less than 127), the topic's name, how many partitions.
            rest.skip(if is_flexible { 6 } else { 8 })?;
            let name = if is_flexible { usize::from(rest.byte()?) - 1 } else { usize::try_from(rest.short()?).ok()? };
            // A name of 127 bytes or more has a length of two bytes.
            let name =
                if is_flexible && name >= 127 { (name + 1 - 128) + usize::from(rest.byte()?) * 128 - 1 } else { name };
            rest.skip(name + if is_flexible { 1 } else { 4 } + 4)?;
            rest.short()
        }
        _ => None,
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.0.first()?;
        self.skip(1)?;
        Some(byte)
    }

    fn short(&mut self) -> Option<i16> {
        let short = i16::from_be_bytes(self.0.get(..2)?.try_into().ok()?);
        self.skip(2)?;
        Some(short)
    }
}

/// Puts another port in the place of the broker's, wherever an answer has the broker's address: the host's name, and right
/// after it the port, in all versions. The length stays the same.
pub fn redirect(answer: &mut [u8], broker: &str, to: u16) {
    let (host, port) = broker.rsplit_once(':').unwrap();
    let address = [host.as_bytes(), &u32::from(port.parse::<u16>().unwrap()).to_be_bytes()].concat();
    for at in 0..answer.len().saturating_sub(address.len() - 1) {
        if answer[at..].starts_with(&address) {
            answer[at + host.len()..at + address.len()].copy_from_slice(&u32::from(to).to_be_bytes());
        }
    }
}

#[test]
fn frames_are_read() {
    let mut answer = *b"\0\0\0\0\x09127.0.0.1\0\0\x23\x84\0x127.0.0.1\0\0\x23\x85";
    redirect(&mut answer, "127.0.0.1:9092", 0x0102);
    assert_eq!(&answer, b"\0\0\0\0\x09127.0.0.1\0\0\x01\x02\0x127.0.0.1\0\0\x23\x85");
    let code = |key, version, answer: &[u8]| error_code(Head { key, version }, answer);
    assert_eq!(code(END_TXN, 1, b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\x2f"), Some(47));
    assert_eq!(code(TXN_OFFSET_COMMIT, 3, b"LLLLCCCC\0\0\0\0\0\x02\x04abc\x02\0\0\0\x01\0\x2f\0\0"), Some(47));
    assert_eq!(code(TXN_OFFSET_COMMIT, 2, b"LLLLCCCC\0\0\0\0\0\0\0\x01\0\x03abc\0\0\0\x01\0\0\0\x01\0\x2f"), Some(47));
    assert_eq!(code(OFFSET_COMMIT, 8, b"LLLLCCCC\0\0\0\0\0\x02\x04abc\x02\0\0\0\x01\0\x16\0\0"), Some(22));
    assert_eq!(code(OFFSET_COMMIT, 7, b"LLLLCCCC\0\0\0\0\0\0\0\x01\0\x03abc\0\0\0\x01\0\0\0\x01\0\x16"), Some(22));
    let long = [&b"LLLLCCCC\0\0\0\0\0\x02\xc9\x01"[..], &[b'a'; 200], b"\x02\0\0\0\x01\0\x2f\0\0"].concat();
    assert_eq!(code(TXN_OFFSET_COMMIT, 3, &long), Some(47));
    assert_eq!(code(INIT_PRODUCER_ID, 4, b"LLLLCCCC\0\0\0\0\0\0\x2f"), Some(47));
}

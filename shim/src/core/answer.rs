//! DNS messages (RFC 1035, 4): the question in a program's packet, and an answer to it.
//!
//! ```text
//! id, flags, counts | question: name, type, class | records: pointer to that name, type, class, TTL, data
//! ```
//! Pure and without allocation. What a packet says of its lengths is believed within its bounds only.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of the internet.
pub const IN: u16 = 1;
/// How long an answer may be kept, in seconds: as long as a cluster's DNS says of its services.
const TTL: u32 = 5;
/// Bytes of a header.
const HEADER: usize = 12;
const MAX_LABEL: u8 = 63;
/// A compressed name: the one of the question.
const NAME_OF_QUESTION: [u8; 2] = [0xc0, HEADER as u8];

/// In the third byte of a header: a response, the kind of query, cut off, recursion desired.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
/// In its fourth: recursion available.
const RECURSION_AVAILABLE: u8 = 0x80;

/// The types of records that a mesh describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// An IPv4 address.
    A = 1,
    /// The name of an address.
    Ptr = 12,
    /// An IPv6 address.
    Aaaa = 28,
}

impl Kind {
    /// The type of a number.
    pub const fn of(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::A),
            12 => Some(Self::Ptr),
            28 => Some(Self::Aaaa),
            _ => None,
        }
    }
}

/// Room for a name with dots and without the final one.
pub type NameRoom = [u8; 253];

/// A question of class IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// What is asked for.
    pub kind: Kind,
    id: u16,
    recursion: bool,
    name: Name<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name<'a> {
    /// With dots.
    Text(&'a [u8]),
    /// As it stands in a packet: an answer repeats it to the letter.
    Wire(&'a [u8]),
}

impl<'a> Question<'a> {
    /// The question for a host name that the mesh knows.
    pub const fn of_name(name: &'a [u8], kind: Kind) -> Self {
        Self { kind, id: 0, recursion: true, name: Name::Text(name) }
    }

    /// The question of a packet, and its name in `room`; `None` when it is not one plain query for a host name's
    /// addresses or for an address's name.
    pub fn parse<'r>(packet: &'a [u8], room: &'r mut NameRoom) -> Option<(Self, &'r str)> {
        let (&[id_high, id_low, flags, _, counts @ .., _, _], rest) = packet.split_first_chunk::<HEADER>()?;
        // One question; no answers and authorities. What is added (EDNS) is about the transport.
        if flags & (RESPONSE | OPCODE | TRUNCATED) != 0 || counts != [0, 1, 0, 0, 0, 0] {
            return None;
        }
        let mut end = 0;
        let mut length = 0;
        loop {
            let label = *rest.get(end)?;
            let start = end + 1;
            end = start + usize::from(label);
            match label {
                0 => break,
                1..=MAX_LABEL => {
                    if length > 0 {
                        *room.get_mut(length)? = b'.';
                        length += 1;
                    }
                    let bytes = rest.get(start..end)?;
                    // A dot within a label is another name than it looks like.
                    bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.').then_some(())?;
                    room.get_mut(length..length + bytes.len())?.copy_from_slice(bytes);
                    length += bytes.len();
                }
                // A pointer, which in a question leads nowhere.
                _ => return None,
            }
        }
        let (wire, rest) = rest.split_at_checked(end)?;
        let &[kind_high, kind_low, class_high, class_low] = rest.first_chunk()?;
        let kind = Kind::of(u16::from_be_bytes([kind_high, kind_low]))?;
        if u16::from_be_bytes([class_high, class_low]) != IN {
            return None;
        }
        let id = u16::from_be_bytes([id_high, id_low]);
        let question = Self { kind, id, recursion: flags & RECURSION_DESIRED != 0, name: Name::Wire(wire) };
        Some((question, std::str::from_utf8(room.get(..length)?).ok()?))
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reversed(name: &str) -> Option<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |domain: &str| {
        let (labels, end) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
        end.eq_ignore_ascii_case(domain).then_some(labels)
    };
    if let Some(labels) = below(".in-addr.arpa") {
        let mut octets = [0; 4];
        parse_labels(labels, &mut octets, 3, 10)?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let mut nibbles = [0; 32];
    parse_labels(below(".ip6.arpa")?, &mut nibbles, 1, 16)?;
    Some(Ipv6Addr::from(nibbles.iter().fold(0, |bits, nibble| bits << 4 | u128::from(*nibble))).into())
}

/// Fills in numbers from labels, the last first; `None` unless there are just as many.
fn parse_labels(labels: &str, numbers: &mut [u8], digits: usize, radix: u32) -> Option<()> {
    let mut labels = labels.rsplit('.');
    for number in numbers {
        let label = labels.next().filter(|label| label.len() <= digits && !label.starts_with('+'))?;
        *number = u8::from_str_radix(label, radix).ok()?;
    }
    labels.next().is_none().then_some(())
}

/// An answer under way. What exceeds its room is counted and left out.
pub struct Message<'a> {
    room: &'a mut [MaybeUninit<u8>],
    length: usize,
    flags: u8,
    records: u16,
}

impl<'a> Message<'a> {
    /// An answer without records: the name is known, what is asked for is not there.
    pub fn answering(question: &Question<'_>, room: &'a mut [MaybeUninit<u8>]) -> Self {
        let flags = if question.recursion { RESPONSE | RECURSION_DESIRED } else { RESPONSE };
        let mut message = Self { room, length: 0, flags, records: 0 };
        message.put(&question.id.to_be_bytes());
        message.put(&[flags, RECURSION_AVAILABLE]);
        message.put(&[0, 1, 0, 0, 0, 0, 0, 0]);
        match question.name {
            Name::Text(name) => message.put_name(name),
            Name::Wire(name) => message.put(name),
        }
        message.put(&(question.kind as u16).to_be_bytes());
        message.put(&IN.to_be_bytes());
        message
    }

    /// Adds an address.
    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(ip) => {
                self.begin_record(Kind::A, 4);
                self.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.begin_record(Kind::Aaaa, 16);
                self.put(&ip.octets());
            }
        }
    }

    /// Adds the name of the address asked for, a host name of the mesh.
    pub fn name(&mut self, name: &[u8]) {
        // The first label's length and the root's stand for one byte more than the dots do.
        self.begin_record(Kind::Ptr, name.len() as u16 + 2);
        self.put_name(name);
    }

    /// The whole answer's length. Where the room was too small, the message says that it is cut off.
    pub fn finish(mut self) -> usize {
        let length = self.length;
        if length > self.room.len() {
            self.flags |= TRUNCATED;
        }
        self.length = 2;
        self.put(&[self.flags]);
        self.length = 6;
        self.put(&self.records.to_be_bytes());
        length
    }

    /// How many records it has.
    pub const fn records(&self) -> u16 {
        self.records
    }

    fn begin_record(&mut self, kind: Kind, length: u16) {
        self.put(&NAME_OF_QUESTION);
        self.put(&(kind as u16).to_be_bytes());
        self.put(&IN.to_be_bytes());
        self.put(&TTL.to_be_bytes());
        self.put(&length.to_be_bytes());
        self.records += 1;
    }

    fn put_name(&mut self, name: &[u8]) {
        for label in name.split(|byte| *byte == b'.') {
            self.put(&[label.len() as u8]);
            self.put(label);
        }
        self.put(&[0]);
    }

    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.room.get_mut(self.length) {
                place.write(*byte);
            }
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A query with one question, as res_mkquery(3) makes it.
    fn query(name: &str, kind: u16, class: u16) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(label.len() as u8);
            packet.extend(label.bytes());
        }
        packet.push(0);
        packet.extend(kind.to_be_bytes());
        packet.extend(class.to_be_bytes());
        packet
    }

    /// An answer's full length, and as much of it as the room takes.
    fn answer(question: &Question<'_>, addresses: &[&str], room: usize) -> (usize, Vec<u8>) {
        let mut room = vec![MaybeUninit::new(0xff); room];
        let mut message = Message::answering(question, &mut room);
        for address in addresses {
            message.address(address.parse().unwrap());
        }
        let length = message.finish();
        // SAFETY: initialised above.
        (length, room.iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }

    #[test]
    fn a_query_is_answered_under_its_id_and_name_to_the_letter() {
        let packet = query("GreeTer.shop", 1, IN);
        let mut room = [0; 253];
        let (question, name) = Question::parse(&packet, &mut room).unwrap();
        assert_eq!((name, question.kind), ("GreeTer.shop", Kind::A));
        let (length, bytes) = answer(&question, &["10.0.0.1", "10.0.0.2"], 512);
        assert_eq!(bytes[..12], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        assert_eq!(bytes[12..packet.len()], packet[12..]);
        let record = |last| [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, last];
        assert_eq!(bytes[packet.len()..length], [record(1), record(2)].concat());
        assert!(bytes[length..].iter().all(|byte| *byte == 0xff), "nothing past the end");
    }

    #[test]
    fn a_question_made_of_a_name_is_the_one_of_a_packet() {
        for (kind, address) in [(Kind::A, "10.0.0.1"), (Kind::Aaaa, "fd00::1")] {
            let packet = query("greeter.shop", kind as u16, IN);
            let (_, bytes) = answer(&Question::of_name(b"greeter.shop", kind), &[address], 512);
            assert_eq!(bytes[12..packet.len()], packet[12..]);
            assert_eq!(bytes[..8], [0, 0, 0x81, 0x80, 0, 1, 0, 1]);
        }
    }

    #[test]
    fn the_name_of_an_address_is_written_in_labels() {
        let mut room = [MaybeUninit::new(0xff); 128];
        let mut message = Message::answering(&Question::of_name(b"1.0.0.10.in-addr.arpa", Kind::Ptr), &mut room);
        message.name(b"db.shop");
        let length = message.finish();
        // SAFETY: initialised above.
        let bytes = room.map(|byte| unsafe { byte.assume_init() });
        assert_eq!(bytes[length - 11..length], *b"\0\x09\x02db\x04shop\0");
    }

    #[test]
    fn a_room_too_small_holds_a_beginning_that_says_so() {
        let question = Question::of_name(b"greeter.shop", Kind::Aaaa);
        let (full, whole) = answer(&question, &["fd00::1"], 512);
        assert_eq!(answer(&question, &["fd00::1"], full), (full, whole[..full].to_vec()));
        for room in 12..full {
            let (length, bytes) = answer(&question, &["fd00::1"], room);
            assert_eq!(length, full);
            assert_eq!(bytes[2], whole[2] | TRUNCATED);
            assert_eq!((&bytes[..2], &bytes[3..]), (&whole[..2], &whole[3..room]));
        }
    }

    #[test]
    fn what_is_no_plain_query_is_not_taken_for_one() {
        let good = query("greeter.shop", 1, IN);
        let parses = |packet: &[u8]| Question::parse(packet, &mut [0; 253]).is_some();
        assert!(parses(&good));
        for length in 0..good.len() {
            assert!(!parses(&good[..length]), "cut off at {length}");
        }
        let changed = |at: usize, byte| {
            let mut packet = good.clone();
            packet[at] = byte;
            parses(&packet)
        };
        assert!(!changed(2, RESPONSE) && !changed(2, 0x10) && !changed(5, 2) && !changed(7, 1) && !changed(9, 1));
        assert!(changed(11, 1), "EDNS");
        assert!(!changed(12, 0xc0), "a pointer");
        assert!(!changed(14, b'.') && !changed(14, 0) && !changed(14, b' '), "no host name");
        for (kind, class) in [(16, IN), (33, IN), (44, IN), (255, IN), (1, 3), (1, 255)] {
            assert!(!parses(&query("greeter.shop", kind, class)), "{kind} {class}");
        }
        let longest = [["x"; 63].join("").as_str(); 4].join(".");
        assert!(parses(&query(&longest[..253], 1, IN)) && !parses(&query(&longest[..254], 1, IN)));
    }

    #[test]
    fn names_of_addresses_are_read_backwards() {
        let v6 = "b.a.9.8.7.6.5.4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.IP6.arpa";
        for (name, address) in [
            ("10.0.96.10.in-addr.arpa", Some("10.96.0.10")),
            ("10.0.96.10.IN-ADDR.ARPA.", Some("10.96.0.10")),
            (v6, Some("2001:db8::123:4567:89ab")),
            ("0.96.10.in-addr.arpa", None),
            ("1.10.0.96.10.in-addr.arpa", None),
            ("256.0.96.10.in-addr.arpa", None),
            ("+1.0.96.10.in-addr.arpa", None),
            (".0.96.10.in-addr.arpa", None),
            (&v6[2..], None),
            ("in-addr.arpa", None),
            ("ä", None),
        ] {
            assert_eq!(reversed(name), address.map(|address| address.parse().unwrap()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_is_read_or_written_past_its_end(
            start in prop::sample::select(vec![vec![], vec![0; 12], query("greeter.shop", 1, IN)]),
            noise in prop::collection::vec((0_usize..300, any::<u8>()), 0..8),
            tail in prop::collection::vec(any::<u8>(), 0..300),
            room in 0_usize..600,
        ) {
            let mut packet = [start, tail].concat();
            for (at, byte) in noise {
                if let Some(place) = packet.get_mut(at) {
                    *place = byte;
                }
            }
            let mut text = [0; 253];
            if let Some((question, name)) = Question::parse(&packet, &mut text) {
                prop_assert!(name.len() <= 253 && name.is_ascii());
                reversed(name);
                let (length, bytes) = answer(&question, &["10.0.0.1", "fd00::1"], room);
                prop_assert!(length >= HEADER && bytes.len() == room);
            }
        }

        #[test]
        fn no_text_panics_as_a_reversed_name(text in "\\PC*(\\.in-addr\\.arpa|\\.ip6\\.arpa)?") {
            reversed(&text);
        }
    }
}

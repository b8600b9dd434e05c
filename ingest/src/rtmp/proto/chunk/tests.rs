use super::*;
use crate::rtmp::proto::testing::Random;

fn message(kind: u8, timestamp: u32, payload: &[u8]) -> Message {
    Message {
        kind,
        stream: 1,
        timestamp,
        payload: Bytes::copy_from_slice(payload),
    }
}

fn read_in(
    bytes: &[u8],
    limits: &Limits,
    mut piece: impl FnMut() -> usize,
) -> (Vec<Message>, Option<Error>) {
    let mut reader = Reader::new(limits);
    reader.set_message_bytes_max(limits.message_bytes);
    let (mut input, mut rest, mut messages) = (BytesMut::new(), bytes, Vec::new());
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(piece().clamp(1, rest.len()));
        input.extend_from_slice(head);
        rest = tail;
        loop {
            match reader.read(&mut input, Duration::ZERO) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn read(bytes: &[u8]) -> (Vec<Message>, Option<Error>) {
    read_in(bytes, &Limits::default(), || usize::MAX)
}

fn times(bytes: &[u8]) -> Vec<u32> {
    let (messages, error) = read(bytes);
    assert_eq!(error, None);
    messages.iter().map(|message| message.timestamp).collect()
}

/// A full header on chunk stream 5 for `length` bytes of audio.
fn full(timestamp: u32, length: u8) -> Vec<u8> {
    let [_, a, b, c] = timestamp.to_be_bytes();
    vec![5, a, b, c, 0, 0, length, message::AUDIO, 1, 0, 0, 0]
}

#[test]
fn what_a_writer_writes_a_reader_reads_whatever_the_split() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut writer, mut bytes, mut sent) = (Writer::new(), BytesMut::new(), Vec::new());
        let mut time = u32::MAX - 5_000;
        for _ in 0..20 {
            if random.below(4) == 0 {
                writer.set_chunk_bytes(u32::try_from(1 + random.below(300)).unwrap(), &mut bytes);
            }
            // Steps across 2^32, repeats, extended deltas, and steps back.
            time = match random.below(8) {
                0 => time.wrapping_sub(1000),
                1 => time.wrapping_add(0x0123_4567),
                2 => time.wrapping_add(EXTENDED),
                _ => time.wrapping_add(1000),
            };
            let length = [0, 1, 127, 128, 129, 700][random.below(6)];
            let id = [2, 63, 64, 319, 320, 65_599][random.below(6)];
            let payload = random.bytes(length);
            let one = message(
                message::AUDIO + random.below(2).to_le_bytes()[0],
                time,
                &payload,
            );
            writer.write(id, &one, &mut bytes);
            sent.push(one);
        }
        let (messages, error) = read_in(&bytes, &Limits::default(), || 1 + random.below(40));
        assert_eq!(error, None, "seed {seed}");
        assert_eq!(messages, sent, "seed {seed}");
    }
}

#[test]
fn headers_shrink_to_one_byte() {
    let (mut writer, mut bytes) = (Writer::new(), BytesMut::new());
    let mut lengths = Vec::new();
    for (timestamp, payload) in [
        (100, "aa"),
        (123, "bbb"),
        (146, "ccc"),
        (169, "ddd"),
        (200, "eee"),
    ] {
        let before = bytes.len();
        writer.write(
            4,
            &message(message::AUDIO, timestamp, payload.as_bytes()),
            &mut bytes,
        );
        lengths.push(bytes.len() - before - payload.len());
    }
    assert_eq!(lengths, [12, 8, 1, 1, 4], "types 0, 1, 3, 3, 2");
    assert_eq!(times(&bytes), [100, 123, 146, 169, 200]);
}

#[test]
fn a_type_3_chunk_after_a_type_0_chunk_repeats_its_timestamp() {
    let bytes = [full(23, 1), vec![0xaa], vec![0xc5, 0xbb], vec![0xc5, 0xcc]].concat();
    assert_eq!(times(&bytes), [23, 46, 69]);
}

#[test]
fn extended_timestamps_repeat_in_type_3_chunks_or_do_not() {
    let payload: Vec<u8> = (0..200).map(|n| n + 1).collect();
    let header = [full(EXTENDED, 200), vec![0x01, 0x02, 0x03, 0x04]].concat();
    let with = [
        &header,
        &payload[..128],
        &[0xc5, 1, 2, 3, 4],
        &payload[128..],
    ]
    .concat();
    let without = [&header, &payload[..128], &[0xc5], &payload[128..]].concat();
    for bytes in [with, without] {
        for piece in [1, 3, 1000] {
            let (messages, error) = read_in(&bytes, &Limits::default(), || piece);
            assert_eq!(error, None);
            assert_eq!(messages.len(), 1);
            assert_eq!(messages[0].timestamp, 0x0102_0304);
            assert_eq!(messages[0].payload, payload);
        }
    }
}

#[test]
fn a_short_tail_without_the_extended_timestamp_does_not_wait_for_more() {
    let header = [full(EXTENDED, 130), vec![0x01, 0x02, 0x03, 0x04]].concat();
    let bytes = [&header, &[9; 128][..], &[0xc5, 9, 9]].concat();
    let (messages, _) = read(&bytes);
    assert_eq!(
        messages.len(),
        1,
        "two bytes of payload cannot be the timestamp"
    );
}

#[test]
fn extended_deltas_add_up() {
    let delta = |extended: [u8; 4]| [&[0x85, 0xff, 0xff, 0xff][..], &extended, &[0xbb]].concat();
    let bytes = [
        full(0, 1),
        vec![0xaa],
        delta([0x01, 0, 0, 0]),
        // A type 3 chunk that begins a message carries the field too.
        vec![0xc5, 0x01, 0, 0, 0, 0xcc],
    ]
    .concat();
    assert_eq!(times(&bytes), [0, 0x0100_0000, 0x0200_0000]);
}

#[test]
fn times_wrap_at_24_bits_without_extension_and_at_32_with() {
    let (mut writer, mut bytes) = (Writer::new(), BytesMut::new());
    let stamps: Vec<u32> = (0..10).map(|n| 0x00ff_fff0 + n * 4).collect();
    for &timestamp in &stamps {
        writer.write(4, &message(message::AUDIO, timestamp, b"x"), &mut bytes);
    }
    assert_eq!(times(&bytes), stamps, "past 2^24");
    let (mut writer, mut bytes) = (Writer::new(), BytesMut::new());
    let stamps: Vec<u32> = (0..10)
        .map(|n| 0xffff_fff0_u32.wrapping_add(n * 4))
        .collect();
    for &timestamp in &stamps {
        writer.write(4, &message(message::AUDIO, timestamp, b"x"), &mut bytes);
    }
    assert_eq!(times(&bytes), stamps, "past 2^32");
}

#[test]
fn chunk_streams_interleave() {
    let video = [
        &[6, 0, 0, 1, 0, 0, 200, message::VIDEO, 1, 0, 0, 0][..],
        &[7; 128],
    ]
    .concat();
    let audio = [full(2, 3), vec![8; 3]].concat();
    let rest = [&[0xc6][..], &[7; 72]].concat();
    let (messages, error) = read(&[video, audio, rest].concat());
    assert_eq!(error, None);
    let kinds: Vec<_> = messages
        .iter()
        .map(|message| (message.kind, message.payload.len()))
        .collect();
    assert_eq!(kinds, [(message::AUDIO, 3), (message::VIDEO, 200)]);
}

#[test]
fn abort_gives_up_one_message() {
    let begun = [full(0, 200), vec![7; 128]].concat();
    let abort = [
        &[2, 0, 0, 0, 0, 0, 4, message::ABORT, 0, 0, 0, 0][..],
        &[0, 0, 0, 5],
    ]
    .concat();
    let next = [full(9, 2), vec![1, 2]].concat();
    let (messages, error) = read(&[begun, abort, next].concat());
    assert_eq!(error, None);
    assert_eq!(messages, [message(message::AUDIO, 9, &[1, 2])]);
}

#[test]
fn a_header_repeated_inside_a_message_continues_it_and_another_replaces_it() {
    let begun = [full(7, 200), vec![7; 128]].concat();
    let repeated = [full(7, 200), vec![7; 72]].concat();
    let (messages, _) = read(&[begun.clone(), repeated].concat());
    assert_eq!(messages, [message(message::AUDIO, 7, &[7; 200])]);
    let replaced = [full(9, 2), vec![1, 2]].concat();
    let (messages, _) = read(&[begun, replaced].concat());
    assert_eq!(messages, [message(message::AUDIO, 9, &[1, 2])]);
}

#[test]
fn a_delta_may_open_a_chunk_stream_only_with_a_full_message_header() {
    // librtmp opens its ping stream with a type 1 chunk.
    let (messages, error) = read(&[0x42, 0, 0, 5, 0, 0, 1, message::AUDIO, 0xaa]);
    assert_eq!((messages.len(), error), (1, None));
    assert_eq!(
        read(&[0x85, 0, 0, 0]).1,
        Some(Error::Headless { kind: 2, id: 5 })
    );
    assert_eq!(read(&[0xc5]).1, Some(Error::Headless { kind: 3, id: 5 }));
}

#[test]
fn chunk_sizes_are_checked() {
    let set = |size: u32| {
        [
            &[2, 0, 0, 0, 0, 0, 4, message::SET_CHUNK_SIZE, 0, 0, 0, 0][..],
            &size.to_be_bytes(),
        ]
        .concat()
    };
    let thousand = [
        &[5, 0, 0, 0, 0, 3, 232, message::AUDIO, 1, 0, 0, 0][..],
        &[7; 1000],
    ]
    .concat();
    for size in [1000, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, u32::MAX / 2] {
        let (messages, error) = read(&[set(size), thousand.clone()].concat());
        assert_eq!((messages.len(), error), (1, None), "{size}");
    }
    for size in [0, u32::MAX / 2 + 1, u32::MAX] {
        assert_eq!(read(&set(size)).1, Some(Error::ChunkSize(size)));
    }
    let short = [
        2,
        0,
        0,
        0,
        0,
        0,
        3,
        message::SET_CHUNK_SIZE,
        0,
        0,
        0,
        0,
        1,
        2,
        3,
    ];
    assert_eq!(
        read(&short).1,
        Some(Error::Control(message::SET_CHUNK_SIZE))
    );
}

#[test]
fn a_message_is_bounded_before_its_first_byte() {
    let limits = Limits::default();
    let mut reader = Reader::new(&limits);
    let header = |length: usize| {
        let [.., a, b, c] = length.to_be_bytes();
        BytesMut::from(&[5, 0, 0, 0, a, b, c, message::VIDEO, 1, 0, 0, 0][..])
    };
    assert_eq!(reader.read(&mut header(65_536), Duration::ZERO), Ok(None));
    let mut reader = Reader::new(&limits);
    let refused = Err(Error::MessageLength {
        length: 65_537,
        max: 65_536,
    });
    assert_eq!(reader.read(&mut header(65_537), Duration::ZERO), refused);
    let mut reader = Reader::new(&limits);
    reader.set_message_bytes_max(limits.message_bytes);
    assert_eq!(reader.read(&mut header(8 << 20), Duration::ZERO), Ok(None));
    let mut reader = Reader::new(&limits);
    reader.set_message_bytes_max(limits.message_bytes);
    let refused = Err(Error::MessageLength {
        length: (8 << 20) + 1,
        max: 8 << 20,
    });
    assert_eq!(
        reader.read(&mut header((8 << 20) + 1), Duration::ZERO),
        refused
    );
}

#[test]
fn memory_follows_what_has_come_and_not_what_was_announced() {
    let limits = Limits::default();
    let mut reader = Reader::new(&limits);
    reader.set_message_bytes_max(limits.message_bytes);
    for id in 3..35 {
        let header = [id, 0, 0, 0, 0x80, 0, 0, message::VIDEO, 1, 0, 0, 0];
        let bytes = [&header[..], &[7; 128]].concat();
        assert_eq!(reader.read_all(&bytes, Duration::ZERO), Ok(0));
    }
    assert_eq!(reader.unfinished, 32 * FIRST_BYTES, "of 32 times 8 MiB");
}

#[test]
fn unfinished_messages_are_bounded_together() {
    // Twice 32 KiB of 50 000 bytes are there, and reserved.
    let limits = Limits {
        unfinished_bytes: 65_536,
        ..Limits::default()
    };
    let begun = |id: u8, count: usize| {
        let header = [id, 0, 0, 0, 0, 0xc3, 0x50, message::VIDEO, 1, 0, 0, 0];
        [&header[..], &vec![7; count]].concat()
    };
    let size = [
        2,
        0,
        0,
        0,
        0,
        0,
        4,
        message::SET_CHUNK_SIZE,
        0,
        0,
        0,
        0,
        0,
        0,
        0x80,
        0,
    ];
    let two = [&size[..], &begun(5, 32_768), &begun(6, 32_768)].concat();
    let three = [&two[..], &begun(7, 1)].concat();
    let finished = [&two[..], &[0xc5], &[7; 50_000 - 32_768], &begun(7, 1)].concat();
    for piece in [1, 1000, usize::MAX] {
        assert_eq!(read_in(&two, &limits, || piece).1, None);
        assert_eq!(
            read_in(&three, &limits, || piece).1,
            Some(Error::Unfinished(65_536))
        );
    }
    let limits = Limits {
        unfinished_bytes: 65_536 + 50_000 - 32_768,
        ..limits
    };
    let (messages, error) = read_in(&finished, &limits, || usize::MAX);
    assert_eq!(
        (messages.len(), error),
        (1, None),
        "a finished message makes room"
    );
}

#[test]
fn chunk_streams_are_bounded() {
    let open = |count: u8| {
        (0..count).flat_map(|n| {
            let mut bytes = full(0, 1);
            bytes[0] = n + 3;
            bytes.push(0xaa);
            bytes
        })
    };
    assert_eq!(read(&open(32).collect::<Vec<_>>()).1, None);
    assert_eq!(
        read(&open(33).collect::<Vec<_>>()).1,
        Some(Error::ChunkStreams(32))
    );
}

#[test]
fn chunks_a_second_are_bounded() {
    let limits = Limits {
        chunks_per_second: 1000,
        ..Limits::default()
    };
    let mut one = BytesMut::from(full(0, 0).as_slice());
    let mut reader = Reader::new(&limits);
    assert!(reader.read(&mut one, Duration::ZERO).is_ok());
    let mut more = |count: usize, now| reader.read_all(&vec![0xc5; count], now);
    assert_eq!(more(999, Duration::ZERO), Ok(999));
    assert_eq!(more(1, Duration::ZERO), Err(Error::ChunkRate(1000)));
    assert_eq!(
        more(999, Duration::from_secs(1)),
        Ok(999),
        "a second later there is room again"
    );
}

impl Reader {
    fn read_all(&mut self, bytes: &[u8], now: Duration) -> Result<usize, Error> {
        let mut input = BytesMut::from(bytes);
        let mut count = 0;
        while self.read(&mut input, now)?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

#[test]
fn random_bytes_end_in_messages_or_an_error() {
    for seed in 0..500 {
        let mut random = Random(seed);
        let bytes = random.bytes(4000);
        read_in(&bytes, &Limits::default(), || 1 + random.below(100));
    }
}

//! Chunks as a demultiplexer reads them.

use mp4_atom::{Atom, Decode, DecodeAtom, Header, Moof, Moov};

/// One chunk.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) sequence: u32,
    pub(crate) tfdt: u64,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) duration: u32,
    pub(crate) composition: i64,
    pub(crate) flags: u32,
    pub(crate) data: Vec<u8>,
}

impl Sample {
    pub(crate) fn sync(&self) -> bool {
        self.flags & 0x0001_0000 == 0
    }
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        let durations = self.samples.iter().map(|sample| u64::from(sample.duration));
        self.tfdt + durations.sum::<u64>()
    }
}

/// Reads `moof` and `mdat` pairs, and nothing else; checks what CMAF asks of them.
pub(crate) fn chunks(init: &[u8], mut bytes: &[u8]) -> Vec<Chunk> {
    let moov = moov(init);
    let trex = &moov.mvex.as_ref().unwrap().trex[0];
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let start = bytes;
        let moof = Moof::decode(&mut bytes).expect("a moof");
        let moof_len = start.len() - bytes.len();
        let mdat = Header::decode(&mut bytes).expect("an mdat");
        assert_eq!(mdat.kind, mp4_atom::FourCC::new(b"mdat"));
        let mdat_len = mdat.size.expect("a size");
        assert_eq!(moof.traf.len(), 1, "one traf");
        let traf = &moof.traf[0];
        assert_eq!(traf.tfhd.track_id, trex.track_id);
        assert!(traf.tfhd.default_base_is_moof);
        assert!(traf.tfhd.base_data_offset.is_none());
        assert_eq!(traf.trun.len(), 1);
        let trun = &traf.trun[0];
        let mut at = usize::try_from(trun.data_offset.unwrap()).unwrap();
        assert_eq!(at, moof_len + 8, "data begins with the mdat");
        let mut samples = Vec::new();
        for entry in trun.samples.iter() {
            let size = entry.size.unwrap() as usize;
            samples.push(Sample {
                duration: entry
                    .duration
                    .or(traf.tfhd.default_sample_duration)
                    .unwrap(),
                composition: entry.cts.unwrap_or(0),
                flags: entry.flags.unwrap_or(trex.default_sample_flags),
                data: start[at..at + size].to_vec(),
            });
            at += size;
        }
        assert_eq!(at, moof_len + 8 + mdat_len, "data ends with the mdat");
        assert!(samples.iter().all(|sample| sample.duration > 0));
        bytes = &bytes[mdat_len..];
        all.push(Chunk {
            sequence: moof.mfhd.sequence_number,
            tfdt: traf.tfdt.as_ref().unwrap().base_media_decode_time,
            samples,
        });
    }
    all
}

/// The `moov` of an initialization segment; checks what CMAF asks of it.
pub(crate) fn moov(init: &[u8]) -> Moov {
    let mut bytes = init;
    let header = Header::decode(&mut bytes).unwrap();
    let ftyp = mp4_atom::Ftyp::decode_atom(&header, &mut bytes).unwrap();
    for brand in [b"cmfc", b"cmf2", b"iso6"] {
        assert!(
            ftyp.compatible_brands
                .contains(&mp4_atom::FourCC::new(brand))
        );
    }
    let header = Header::decode(&mut bytes).unwrap();
    assert_eq!(header.kind, Moov::KIND);
    let moov = Moov::decode_atom(&header, &mut bytes).unwrap();
    assert!(bytes.is_empty(), "nothing behind moov");
    assert_eq!(moov.trak.len(), 1, "one track");
    assert!(moov.trak[0].edts.is_none(), "no edit list");
    assert_eq!(moov.mvex.as_ref().unwrap().trex.len(), 1);
    moov
}

//! Arbitrary words as an image file and as an arena: whatever they say, reading ends, and harms nobody.
#![no_main]

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use xds_runtime::boot::BootId;
use xds_runtime::image::{ImageFile, View};
use xds_runtime::lb::{Call, Seeded, choose};
use xds_runtime::shm::{WordAddr, Words};

fn read(view: &View<'_>) {
    let names = view.name_count().unwrap_or(0).min(16);
    for index in 0..names {
        let Ok(name) = view.name_at(index) else { continue };
        let mut buffer = [0; 256];
        if let Ok(text) = view.text(name.text, &mut buffer) {
            let _ = view.name(text);
        }
        for nth in 0..name.address_count().min(8) {
            let _ = view.address(&name, nth).and_then(|address| view.name_of(address));
        }
        let _ = view.string(name.text);
    }
    for index in 0..view.destination_count().unwrap_or(0).min(16) {
        let Ok((address, port, destination)) = view.destination_at(index) else { continue };
        let mut entropy = Seeded(u64::from(index));
        let tried = [(address, port)];
        for avoid in [&[][..], &tried] {
            let call = Call { address, port, source: &|| None, now: 1, avoid };
            let _ = choose(view, None, &call, &mut entropy);
        }
        let _ = view.string(destination.rules_left_out);
    }
    let call = Call { address: WordAddr { hi: 1, lo: 2 }, port: 80, source: &|| None, now: 1, avoid: &[] };
    let _ = choose(view, None, &call, &mut Seeded(0));
    for index in 0..view.cluster_count().unwrap_or(0).min(16) {
        let _ = view.cluster(index).map(|cluster| {
            let _ = view.outlier(&cluster);
            for nth in 0..cluster.priority_count().min(8) {
                let _ = view.priority(&cluster, nth).map(|priority| {
                    let _ = view.ring_entry(&priority, nth);
                    let _ = view.maglev_entry(&priority, nth);
                    let _ = view.health(&priority.set);
                    let _ = view.weights(&priority.set).and_then(|weights| view.weights_to(&weights, nth));
                    view.locality(&priority, nth)
                });
            }
        });
    }
}

thread_local! {
    /// A mapping is `'static`: the same memory serves every input.
    static MEMORY: RefCell<&'static [AtomicU64]> =
        RefCell::new(Box::leak((0..1 << 16).map(|_| AtomicU64::new(0)).collect::<Box<[_]>>()));
}

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    let arena: Vec<AtomicU64> = words.clone().map(AtomicU64::new).collect();
    read(&View::new(Words::new(&arena)));
    MEMORY.with_borrow(|memory| {
        let mut length = 0;
        for (cell, word) in memory.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
            length += 1;
        }
        if let Some(file) = memory.get(..length).and_then(|file| ImageFile::open(file, BootId::from_words([1, 2]), 1)) {
            let _ = file.read(|view| {
                read(view);
                Ok(())
            });
        }
    });
});

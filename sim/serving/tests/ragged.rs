//! Batches whose caches have unequal lengths, by hand and by independent sums.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use einflow_arch::device::{
    Attention, Device, Kernel, Times as Answers, devices,
    law::ragged::{FLASH, LIBRARIES, Plan, streamed},
};
use einflow_serving::{
    device::{Answerer, Call, Launch, Step, Task},
    offload::{
        Scenario, System, report,
        serve::{Options, Unwatched},
        times::{Caches, Load, Operator, Times},
    },
};
use einflow_spec::Source;

const LAYERS: u64 = 32;

fn system(text: &str, beside: Option<PathBuf>) -> System {
    let scenario = Scenario::parse(&Source::new("test.ron", text), beside);
    System::new(scenario.unwrap_or_else(|p| panic!("{p}"))).unwrap_or_else(|p| panic!("{p}"))
}

/// Llama-3-8B on one device: 32 layers, 32 query heads and 8 key heads of 128.
fn alone(device: &str, more: &str) -> String {
    format!(
        r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {{"all": (role: all, device: {device:?}, count: 1{more})}}, load: (batch: 1, context: 64))"#
    )
}

fn caches(lengths: &[u64]) -> Caches {
    let mut out = Caches::default();
    for length in lengths {
        out.push(1, *length);
    }
    out
}

fn decodes(lengths: &[u64]) -> Load {
    Load {
        caches: caches(lengths),
        sampled: lengths.len() as u64,
        ..Load::default()
    }
}

/// Picoseconds of attention of a layer.
fn attention(times: &mut Times<'_>, lengths: &[u64]) -> f64 {
    let timed = times.iteration(&decodes(lengths)).unwrap();
    timed.model[Operator::Attention as usize].time.0 as f64 / LAYERS as f64
}

fn shape(batch: u64, length: u64) -> Attention {
    Attention {
        batch,
        heads: 32,
        key_heads: 8,
        width: 128,
        value_width: 128,
        length,
        causal: false,
        cached: einflow_spec::Stored::BF16,
    }
}

/// A device's law at equal lengths, in picoseconds.
fn law(device: &Device, batch: u64, length: u64) -> f64 {
    let kernel = Kernel::Decode(shape(batch, length));
    (device.by_law("decode:vllm", &kernel, true).unwrap().0 * 1e12).round()
}

fn device(name: &str) -> Device {
    Answerer::load(name, None).unwrap().device
}

/// FlashAttention-2's constants, as measured.
fn constants() -> Vec<f64> {
    let Answers::Laws(laws) = device("h100").times else {
        panic!("laws");
    };
    laws[FLASH.law].values.clone()
}

/// Numbers that look drawn.
fn drawn(seed: &mut u64) -> f64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as f64 / (1u64 << 31) as f64
}

#[test]
fn equal_lengths_take_the_laws_own_time() {
    for name in ["h200", "h100", "a100", "l40s"] {
        let system = system(&alone(name, ""), None);
        let mut times = Times::new(&system);
        for (batch, length) in [(1, 1), (3, 65), (64, 2048), (200, 777)] {
            let found = attention(&mut times, &vec![length; batch as usize]);
            assert_eq!(found, law(&system.models.answerer.device, batch, length));
        }
        let told = |t: &String| t.contains("FlashAttention-2's pieces");
        assert!(!times.assumed().iter().any(told));
    }
}

/// Two caches, 1280 and 128 tokens, on a chip of four units: eight key heads make sixteen pieces, for eight places.
///
/// Units in turn: the first and the third hold two long pieces, the others two short ones. These end after 128 tokens, and
/// two of the four places take the next long ones, two short ones again: after 256 one takes a long one, the other a short
/// one, after 384 that a long one. The last short one waits for the first unit, until 1280. Then are left: 128 on the
/// first unit, none on the third, 128 and 256 on the second, 128 and 384 on the fourth.
///
/// Until then four units stream; two on a unit stream t of what one does. Of 128 left beside more, each takes 256 / t.
#[test]
fn a_long_request_ends_late_on_a_small_chip() {
    let folder = std::env::temp_dir().join(format!("einflow-ragged-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (h200, _) = devices().find("h200", None).unwrap();
    let text = h200.text().replace("units: 132,", "units: 4,");
    let text = text.replace("transfer_units: 24,", "transfer_units: 3,");
    std::fs::write(folder.join("small.ron"), text).unwrap();
    let system = system(&alone("small.ron", ""), Some(folder.clone()));
    std::fs::remove_dir_all(&folder).unwrap();
    let [_, bandwidth, _, _, one, _, t, _] = constants()[..] else {
        panic!("eight constants");
    };
    // What a token of a piece takes where the chip streams so many at once, at a unit's share of the memory's peak.
    let pace = |rate: f64| {
        let memory = rate / (4.0 * bandwidth);
        ((1.0 / one).powi(4) + memory.powi(4)).powf(0.25)
    };
    let ragged = pace(4.0 * t) * 2560.0 / t
        + pace(1.0 + 2.0 * t) * 128.0
        + pace(2.0 * t) * (256.0 / t - 128.0)
        + pace(2.0) * 128.0
        + pace(1.0) * 128.0;
    // Sixteen of 704: two rounds of eight.
    let equal = pace(4.0 * t) * 2.0 * 2.0 * 704.0 / t;
    let mut times = Times::new(&system);
    let found = attention(&mut times, &[1280, 128]);
    let expected = law(&system.models.answerer.device, 2, 704) * ragged / equal;
    assert!((found / expected - 1.0).abs() < 2e-3, "{found} {expected}");
    // Nearly a tenth more, where the mean would have it the same.
    assert!(ragged / equal > 1.08, "{}", ragged / equal);
    let assumed: Vec<String> = times.assumed().into_iter().collect();
    let told: Vec<&String> = assumed
        .iter()
        .filter(|t| t.contains("FlashAttention-2's pieces"))
        .collect();
    assert_eq!(told.len(), 1, "{assumed:?}");
    assert!(told[0].contains("of h100"), "{assumed:?}");
}

/// Lengths near each other take nearly what equal ones do, never less; a batch that grows takes more with every token.
#[test]
fn what_unequal_lengths_cost_is_one_and_more() {
    let system = system(&alone("h200", ""), None);
    let mut times = Times::new(&system);
    let mut seed = 3;
    for batch in [2u64, 5, 30, 100, 300] {
        for spread in [0.002, 0.02, 0.3, 1.0] {
            let lengths: Vec<u64> = (0..batch)
                .map(|_| (2000.0 * (1.0 - spread + 2.0 * spread * drawn(&mut seed))) as u64 + 1)
                .collect();
            let mean = lengths.iter().sum::<u64>() as f64 / batch as f64;
            let found = attention(&mut times, &lengths);
            let equal = law(&system.models.answerer.device, batch, mean.round() as u64);
            let factor = found / equal;
            assert!(
                factor.is_finite() && factor > 1.0 - 1e-9,
                "{batch} {spread}: {factor}"
            );
            if spread < 0.01 {
                assert!(factor < 1.06, "{batch} {spread}: {factor}");
            }
        }
    }
}

/// What is taken at whole blocks of the longest is near what the lengths themselves give, whatever the trace's mixture.
#[test]
fn whole_blocks_stand_for_the_lengths_between() {
    let system = system(&alone("h100", ""), None);
    let mut times = Times::new(&system);
    let chip = system.models.answerer.device.chip;
    let values = constants();
    let mut seed = 5;
    let (mut sum, mut worst, mut count) = (0.0, 0.0, 0.0);
    for batch in [8u64, 15, 40, 120] {
        for _ in 0..60 {
            // Prompts as in a trace of conversations: most of some hundred tokens, some of thousands.
            let lengths: Vec<u64> = (0..batch)
                .map(|_| (200.0 * (4.0 * drawn(&mut seed)).exp().min(30.0)) as u64 + 64)
                .collect();
            let mean = lengths.iter().sum::<u64>() as f64 / batch as f64;
            let of = |lengths: &[u64]| {
                let a = shape(batch, lengths.iter().copied().max().unwrap());
                streamed(&chip, &a, lengths, Plan::Longest, &values)
            };
            let below = (mean as u64 / 128 * 128).max(1);
            let [a, b] = [below, below + 128].map(|l| of(&vec![l; batch as usize]));
            let equal = a + (b - a) * (mean - below as f64) / 128.0;
            let exact = (of(&lengths) / equal).max(1.0);
            let law = law(&system.models.answerer.device, batch, mean.round() as u64);
            let off = (attention(&mut times, &lengths) / law / exact - 1.0).abs();
            worst = f64::max(worst, off);
            sum += off;
            count += 1.0;
        }
    }
    assert!(
        sum / count < 0.02 && worst < 0.15,
        "{} {worst}",
        sum / count
    );
}

/// A library that was measured on unequal lengths takes what `predict` says of the very kernel.
#[test]
fn a_named_library_is_asked_for_the_lengths() {
    let lengths = [9000, 65, 1300, 1301, 1302, 4, 700];
    for library in LIBRARIES {
        let system = system(
            &alone("h100", &format!(", library: {:?}", library.name)),
            None,
        );
        let mut times = Times::new(&system);
        let kernel = Kernel::Ragged {
            shape: shape(7, 9000),
            lengths: lengths.as_slice().into(),
            plan: library.plan,
        };
        let task = Task {
            steps: vec![Step::Call(Call {
                law: library.law.into(),
                kernel: kernel.clone(),
                flushed: true,
            })],
            launch: Launch::Graph,
            chained: true,
            events: false,
        };
        let answerer = &system.models.answerer;
        let predicted = answerer.time(&task).unwrap().time.0;
        let found = attention(&mut times, &lengths);
        assert_eq!(found, (predicted * 1e12).round(), "{}", library.name);
        // The law itself, but for the host and what launching alone costs.
        let law = answerer
            .device
            .by_law_without(library.law, &kernel, true, &["launch"]);
        let launching = law.unwrap().0 - predicted;
        assert!((0.0..10e-6).contains(&launching), "{launching}");
        // Asked again, and after others, it is the same.
        attention(&mut times, &[7, 8]);
        assert_eq!(attention(&mut times, &lengths), found);
    }
    let text = alone("h200", ", library: \"flash2-varlen\"");
    let scenario = Scenario::parse(&Source::new("test.ron", text), None).unwrap();
    let refused = System::new(scenario).err().unwrap().to_string();
    assert!(
        refused.contains("h200 knows no `ragged:flash2-varlen`"),
        "{refused}"
    );
}

fn apart(device: &str, partition: &str, more: &str) -> String {
    format!(
        r#"(name: "test", source: "assumed", model: "llama3-8b",
        pools: {{
            "model": (role: model, device: "h100", count: 1),
            "attention": (role: attention, device: {device:?}, count: 2, partition: {partition}{more}),
        }},
        links: [(name: "net", between: ["model", "attention"], link: "ethernet-400g")],
        boundary: core, load: (batch: 2, context: 64))"#
    )
}

/// Requests whole on two devices: each takes what its own take; heads divided: both take half the heads of all.
#[test]
fn each_device_of_a_pool_has_lengths_of_its_own() {
    let (long, short) = ([4096, 100, 900], [500, 500, 500]);
    let one = system(&alone("h200", ""), None);
    let mut one = Times::new(&one);
    let by_requests = system(&apart("h200", "requests", ""), None);
    let load = Load {
        by_store: vec![caches(&long), caches(&short)],
        ..decodes(&[long, short].concat())
    };
    let timed = Times::new(&by_requests).iteration(&load).unwrap();
    for (works, lengths) in timed.attention.iter().zip([long, short]) {
        let found = works[Operator::Attention as usize].time.0 as f64 / LAYERS as f64;
        assert_eq!(found, attention(&mut one, &lengths));
    }
    let by_heads = system(&apart("h200", "heads", ""), None);
    let timed = Times::new(&by_heads).iteration(&load).unwrap();
    let [a, b] = &timed.attention[..] else {
        panic!("two devices");
    };
    assert_eq!(a, b);
    let all = [long, short].concat();
    let half = Attention {
        heads: 16,
        key_heads: 4,
        ..shape(6, 4096)
    };
    let chip = by_heads.models.answerer.device.chip;
    let of = |lengths: &[u64]| {
        let h200 = device("h200").chip;
        streamed(&h200, &half, lengths, Plan::Longest, &constants())
    };
    assert_eq!(chip.units, 132);
    // 6596 tokens, 1099 and a third in the mean; 4096 are 32 blocks.
    let mean = 6596.0 / 6.0;
    let equal = of(&[1024; 6]) + (of(&[1152; 6]) - of(&[1024; 6])) * (mean - 1024.0) / 128.0;
    let kernel = Kernel::Decode(Attention {
        length: 1099,
        ..half
    });
    let law = device("h200")
        .by_law("decode:vllm", &kernel, true)
        .unwrap()
        .0;
    let expected = law * of(&all) / equal * 1e12;
    let found = a[Operator::Attention as usize].time.0 as f64 / LAYERS as f64;
    assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
}

/// On an accelerator each sequence adds what it adds to another of its length, and the first what one takes more.
#[test]
fn an_accelerator_takes_each_sequence_over_its_own_length() {
    let system = system(
        &apart("fusemax-hbm", "requests", ", price: 1, engine: analytic"),
        None,
    );
    let mut times = Times::new(&system);
    let mut of = |lengths: &[u64]| {
        let load = Load {
            by_store: vec![caches(lengths), Caches::default()],
            ..decodes(lengths)
        };
        let timed = times.iteration(&load).unwrap();
        timed.attention[0][Operator::Attention as usize].time.0 as f64 / LAYERS as f64
    };
    for lengths in [[8192, 100, 1024, 1000], [70, 4095, 4097, 4096]] {
        let added = lengths.map(|l| of(&[l, l]) - of(&[l]));
        let once = of(&[lengths[0]]) - added[0];
        let expected = once + added.iter().sum::<f64>();
        let found = of(&lengths);
        assert!((found - expected).abs() <= 8.0, "{found} {expected}");
    }
    // All alike, and as good as alike: no step between.
    let (equal, nearly) = (of(&[1024; 4]), of(&[1024, 1024, 1024, 1025]));
    assert!((nearly / equal - 1.0).abs() < 1e-3, "{equal} {nearly}");
}

/// Two requests that come with their caches: the run is the iterations over their lengths, whatever the mean says, and the
/// same to the byte where no layer is passed over.
#[test]
fn a_run_is_its_iterations_over_their_lengths() {
    let folder = std::env::temp_dir().join(format!("einflow-run-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let trace = "arrival_s,prompt_tokens,generated_tokens\n0,6000,40\n0,100,40\n0,700,20\n";
    std::fs::write(folder.join("trace.csv"), trace).unwrap();
    let traced = |text: String| text.replace("(batch: 1, context: 64)", "(trace: \"trace.csv\")");
    let text = traced(alone("h200", ""));
    let parse = |text: &str| {
        let source = Source::new("test.ron", text);
        Scenario::parse(&source, Some(folder.clone())).unwrap_or_else(|p| panic!("{p}"))
    };
    let (_, served) = report(parse(&text), Options::default(), &Unwatched).unwrap();
    let system = System::new(parse(&text)).unwrap();
    let mut times = Times::new(&system);
    let mut sum = 0;
    for step in 1..=40 {
        let mut lengths = vec![6000 + step, 100 + step];
        lengths.extend((step <= 20).then_some(700 + step));
        let timed = times.iteration(&decodes(&lengths)).unwrap();
        sum += timed.model.iter().map(|work| work.time.0).sum::<u64>();
    }
    let last = served.tokens.iter().filter_map(|t| t.last).max().unwrap();
    assert_eq!(last.0, sum);
    // The mean is too short.
    let ragged = attention(&mut times, &[6001, 101, 701]);
    assert!(ragged > 1.1 * law(&device("h200"), 3, 2268), "{ragged}");
    let text =
        apart("h20", "requests", "").replace("(batch: 2, context: 64)", "(trace: \"trace.csv\")");
    let text = text.replace("boundary: core", "boundary: core, batches: 2");
    let [with, without] = [true, false].map(|jump| {
        let options = Options {
            jump,
            ..Options::default()
        };
        let (report, served) = report(parse(&text), options, &Unwatched).unwrap();
        (format!("{:?}", report.metrics()), served.tokens)
    });
    assert_eq!(with, without);
    std::fs::remove_dir_all(&folder).unwrap();
}

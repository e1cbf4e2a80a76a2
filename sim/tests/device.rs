//! Device models: fits find what was planted, tables are interpolated, layers and accelerators add up.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use einflow_arch::device::{Attention, Device, Kernel, Operands, devices, law};
use einflow_engine::request::Request;
use einflow_serving::device::{
    Answerer, Call, Launch, Step, Task,
    energy::energy,
    fit::{Sample, Samples, fit},
    halves::unseen,
    layer::{Phase, layer, model},
    predict::predict,
    table::Table,
};
use einflow_spec::{Source, Stored, quantity::Seconds};
use einflow_workloads::analysis::operations;

fn h200() -> Answerer {
    Answerer::load("h200", None).unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found / expected - 1.0).abs() <= tolerance,
        "{found} is not within {tolerance} of {expected}"
    );
}

/// Times of a known law on a grid of caches.
fn planted(values: &[f64]) -> Samples {
    let chip = h200().device.chip;
    let mut all = Vec::new();
    for heads in [8, 32, 40] {
        for batch in [1, 4, 16, 64, 256] {
            for power in 4..14 {
                let kernel = Kernel::Decode(Attention {
                    batch,
                    heads,
                    key_heads: heads,
                    width: 128,
                    value_width: 128,
                    length: 1 << power,
                    causal: false,
                    cached: Stored::BF16,
                });
                all.push(Sample {
                    us: law::time(&chip, &kernel, values, false).0 * 1e6,
                    kernel,
                    flushed: false,
                    group: format!("h={heads}"),
                });
            }
        }
    }
    Samples { all }
}

#[test]
fn a_fit_finds_what_was_planted() {
    // floor, bandwidth, ramp, head, combine, unsplit, cache_bandwidth, cached
    let values = [11.0, 0.9, 9.0, 3.0, 4.0, 0.6, 3.0, 0.7];
    let chip = h200().device.chip;
    let samples = planted(&values);
    let found = fit("decode:mine", &chip, &samples, &BTreeMap::new()).unwrap();
    for (found, planted) in found.values.iter().zip(values) {
        // The search ends where a round gains less than a ten-millionth of the cost.
        close(*found, planted, 0.01);
    }
    assert!(found.error.1 < 0.01, "{:?}", found.error);
    let held = unseen("decode:mine", &chip, &samples, &BTreeMap::new(), &[7]).unwrap();
    assert!(held.half < 0.01, "{held:?}");
    assert_eq!(held.families.len(), 3);
    assert!(held.families.values().all(|e| *e < 0.01), "{held:?}");
    // A parameter that is kept stays.
    let keep = BTreeMap::from([("floor".to_string(), 5.0)]);
    let kept = fit("decode:mine", &chip, &samples, &keep).unwrap();
    assert_eq!((kept.values[0], kept.uncertainty[0]), (5.0, None));
    assert!(kept.error.0 > 0.02);
}

#[test]
fn a_fit_needs_as_many_times_as_parameters() {
    let chip = h200().device.chip;
    let mut samples = planted(&[11.0, 0.9, 9.0, 3.0, 4.0, 0.6, 3.0, 0.7]);
    samples.all.truncate(7);
    let message = fit("decode", &chip, &samples, &BTreeMap::new()).unwrap_err();
    assert_eq!(message, "7 measured times for the 8 parameters of `decode`");
}

/// A device of a table of products; its cache holds 50 MiB.
fn profiled(rows: &str) -> (tempfile::TempDir, Answerer) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), rows).unwrap();
    let text = r#"(name: "mine", description: "measured", source: "assumed",
        chip: (source: "assumed", units: 132, matrix: "989 TFLOP/s", memory: "80 GB", bandwidth: "4 TB/s", cache: "50 MiB"),
        tables: ["t.csv"])"#;
    let device = Device::parse(&Source::new("mine.ron", text)).unwrap();
    let answerer = Answerer::new(device, Some(folder.path())).unwrap();
    (folder, answerer)
}

fn product(m: u64) -> Task {
    let kernel = Kernel::Product {
        batch: 1,
        m,
        k: 1024,
        n: 1024,
        operands: Operands::WORDS,
    };
    let call = Call {
        law: "product".into(),
        kernel,
        flushed: true,
    };
    Task::alone(call, Launch::Eager)
}

#[test]
fn tables_are_interpolated_linearly_and_not_left() {
    let (_folder, mut mine) =
        profiled("m,k,n,us\n16,1024,1024,10\n64,1024,1024,22\n256,1024,1024,40\n");
    let us = |a: &Answerer, m| a.time(&product(m)).map(|a| a.time.0 * 1e6);
    close(us(&mine, 64).unwrap(), 22.0, 1e-12);
    // Half way from 16 to 64, and a quarter of the way from 64 to 256.
    close(us(&mine, 40).unwrap(), 16.0, 1e-12);
    close(us(&mine, 112).unwrap(), 26.5, 1e-12);
    let problem = us(&mine, 512).unwrap_err();
    assert!(problem.message.contains("beyond what mine has measured"));
    assert!(us(&mine, 8).is_err());
    mine.extrapolate = true;
    let beyond = mine.time(&product(448)).unwrap();
    // As far beyond 256 as 64 is below it.
    close(beyond.time.0 * 1e6, 58.0, 1e-12);
    assert_eq!(beyond.flags, ["extrapolated"]);
    assert!(mine.time(&product(100)).unwrap().flags.is_empty());
}

#[test]
fn what_fits_in_the_cache_is_another_regime() {
    // Bytes of a cached token: 4 x 8 x 128 = 4096, so that 50 MiB hold 12800 tokens.
    let rows = "device,framework,b,l,h,hkv,d,us\nmine,vllm-1,1,4096,8,8,128,10\nmine,vllm-1,1,8192,8,8,128,14\nmine,vllm-1,1,16384,8,8,128,60\nmine,vllm-1,1,32768,8,8,128,100\n";
    let (_folder, mine) = profiled(rows);
    let time = |length| {
        let kernel = Kernel::Decode(Attention {
            batch: 1,
            heads: 8,
            key_heads: 8,
            width: 128,
            value_width: 128,
            length,
            causal: false,
            cached: Stored::BF16,
        });
        let call = Call {
            law: "decode:vllm".into(),
            kernel,
            flushed: false,
        };
        let answer = mine.time(&Task::alone(call, Launch::Eager)).unwrap();
        answer.time.0 * 1e6
    };
    // On the line of the two that fit, on, and on that of the two that do not, back.
    close(time(10240), 16.0, 1e-12);
    close(time(14336), 55.0, 1e-12);
}

#[test]
fn a_layer_is_the_sum_of_its_kernels() {
    let llama = model("llama3-8b").unwrap();
    let task = layer(&llama, Phase::Decode, 16, 2048, Launch::Graph);
    let mut weights = 0.0;
    for step in &task.steps {
        if let Step::Call(call) = step
            && let Kernel::Product { k, n, .. } = call.kernel
        {
            weights += k as f64 * n as f64;
        }
    }
    // Llama 3 8B: 4096 x (4096 + 2 x 1024), 4096 x 4096, three of 4096 x 14336.
    let expected = 4096.0 * 6144.0 + 4096.0 * 4096.0 + 3.0 * 4096.0 * 14336.0;
    assert_eq!(weights, expected);
    let answerer = h200();
    let whole = answerer.time(&task).unwrap().time.0;
    let parts: f64 = task
        .steps
        .iter()
        .map(|step| {
            let one = Task {
                steps: vec![step.clone()],
                ..task.clone()
            };
            answerer.time(&one).unwrap().time.0
        })
        .sum();
    close(whole, parts, 1e-12);
}

/// What a kernel counts is what the cascade of the library counts.
#[test]
fn kernels_count_as_the_cascades_do() {
    let catalog = einflow_engine::catalog::Catalog::new();
    let count = |name: &str, queries: u64| {
        let cascade = catalog.cascade(name, None, &[]).unwrap();
        let given = [
            ("B", 3),
            ("H", 8),
            ("G", 2),
            ("E", 64),
            ("F", 64),
            ("M", 96),
            ("P", queries),
        ];
        let given = given.map(|(n, s)| (n.to_string(), s)).into();
        let sizes = cascade.sizes(&given).unwrap();
        let counted = operations(&cascade, &sizes).unwrap();
        (counted.total["mac"], counted.total["exp"])
    };
    let shape = Attention {
        batch: 3,
        heads: 8,
        key_heads: 2,
        width: 64,
        value_width: 64,
        length: 96,
        causal: false,
        cached: Stored::BF16,
    };
    let (products, exponentials) = count("attention/grouped-query", 96);
    assert_eq!(Kernel::Prefill(shape).operations(), 2.0 * products as f64);
    assert_eq!(shape.scores(96), exponentials as f64);
    let (products, exponentials) = count("attention/grouped-query", 1);
    assert_eq!(Kernel::Decode(shape).operations(), 2.0 * products as f64);
    assert_eq!(shape.scores(1), exponentials as f64);
}

/// The only prediction for a table of one row.
fn of_two_gpus(device: &str, row: &str) -> Result<(f64, Vec<String>), String> {
    let text = format!("mode,b,l,layers,us\n{row},1000\n");
    let table = Table::read(&Source::new("t-graph.csv", text), None).unwrap();
    let answerer = Answerer::load(device, None).unwrap();
    let found = predict(&answerer, &table).map_err(|p| p.to_string())?;
    assert_eq!(found.rows[0].group, row.split(',').next().unwrap());
    let row = &found.rows[0];
    Ok((row.predicted[0].unwrap(), row.flags.clone()))
}

#[test]
fn a_step_over_two_devices_by_hand() {
    // 64 sequences of 512 tokens, from the tables (gemm-graph, elementwise-graph) at 64 rows: products, two sums, copies of q and of the
    // output.
    let products = 16.316 + 12.078 + 61.193 + 36.043;
    let (sums, copy) = (2.0 * 1.592, 1.432);
    // k and v are as large as 16 rows of 4096.
    let small = 1.338;
    // silu(y) z of 64 x 14336: 3.67 MB, four fifths of the way from 1.57 (a sum of 64 rows) to 4.19 (a copy of 256); 5.51 MB, five
    // eighths of the way from there to 6.29 (a sum of 256 rows).
    let gate = (1.592 + 0.8 * (1.819 - 1.592)) + (1.819 + 0.625 * (2.027 - 1.819));
    let model = products + sums + 2.0 * copy + 2.0 * small + gate + 12.0 * 0.3;
    let (found, flags) = of_two_gpus("h200-profiled", "model_only,64,512,8").unwrap();
    close(found, 8.0 * model, 1e-9);
    assert!(flags.is_empty(), "{flags:?}");
    // FlashAttention-2 timed alone, 66.912, less events (what a pass takes longer alone) and 36 MB written back at 0.9204 of 4.8 TB/s
    // beside a kernel that is not split and reaches 0.5321 of it.
    let written = 36e6 / (0.9204 * 4.8e6) * (0.5321_f64 / 0.9204).powi(2);
    let attention = 66.912 - (4.53 - 1.335) - written;
    let attention = attention + 2.0 * copy + 4.0 * small + 7.0 * 0.3;
    let (found, _) = of_two_gpus("h200-profiled", "attention_only,64,512,8").unwrap();
    close(found, 8.0 * attention, 1e-9);
    // The output is where it is needed.
    let (found, _) = of_two_gpus("h200-profiled", "one_gpu,64,512,8").unwrap();
    close(found, 8.0 * (model + attention - copy - 0.3), 1e-9);
    // One batch: nothing overlaps. 64 x 6144 words there, 64 x 4096 back.
    let message = |bytes: f64| {
        18.77 + bytes / (0.8327 * 450e3) + 37.84 * bytes / (bytes + 8.297 * 1_048_576.0)
    };
    let apart = model + attention + message(786_432.0) + message(524_288.0);
    let (one, flags) = of_two_gpus("h200-profiled", "split1,64,512,8").unwrap();
    close(one, 8.0 * apart, 1e-6);
    assert!(flags.is_empty(), "{flags:?}");
    // Two batches take more than one and less than twice that, and no less than the model device is busy.
    let (two, _) = of_two_gpus("h200-profiled", "split2,64,512,8").unwrap();
    assert!(two > one && two < 2.0 * one && two > 16.0 * model);
    // Shapes that no table has are the laws'.
    let (_, flags) = of_two_gpus("h200-profiled", "tp2,64,512,8").unwrap();
    assert_eq!(flags.len(), 2, "{flags:?}");
    let laws = |row| of_two_gpus("h200", row).unwrap();
    let (halves, flags) = laws("tp2,64,512,8");
    assert!(flags.is_empty() && halves < laws("one_gpu,64,512,8").0);
    // Layers are alike: twice as many take twice as long, but for the ends of two batches in flight.
    close(laws("tp2,64,512,16").0, 2.0 * laws("tp2,64,512,8").0, 1e-12);
    close(
        laws("split2,64,512,8000").0,
        1000.0 * laws("split2,64,512,8").0,
        0.1,
    );
}

#[test]
fn energy_is_idle_active_and_dynamic_up_to_the_limit() {
    let power = h200().device.power.unwrap();
    let kernel = Kernel::Product {
        batch: 1,
        m: 16384,
        k: 8192,
        n: 8192,
        operands: Operands::WORDS,
    };
    // In a second the operations are nothing: idle and active.
    let (joules, watts) = energy(&power, &kernel, Seconds(1.0)).unwrap();
    let operations = 2.0 * 16384.0 * 8192.0 * 8192.0 * power.operation.unwrap() * 1e-12;
    let bytes = 2.0 * (2.0 * 16384.0 * 8192.0 + 8192.0 * 8192.0) * power.byte.unwrap() * 1e-12;
    let expected = power.idle.0 + power.active.0 + operations + bytes;
    close(watts.0, expected, 1e-12);
    close(joules.0, expected, 1e-12);
    // In a microsecond they would be beyond any board.
    let (_, watts) = energy(&power, &kernel, Seconds(1e-6)).unwrap();
    assert_eq!(watts.0, power.limit.0);
}

#[test]
fn an_accelerator_is_a_device() {
    let fusemax = Answerer::load("fusemax-hbm", None).unwrap();
    let shape = Attention {
        batch: 4,
        heads: 32,
        key_heads: 8,
        width: 128,
        value_width: 128,
        length: 2048,
        causal: false,
        cached: Stored::BF16,
    };
    let time = |kernel| {
        let call = Call {
            law: "attention".into(),
            kernel,
            flushed: true,
        };
        fusemax
            .time(&Task::alone(call, Launch::Eager))
            .unwrap()
            .time
            .0
    };
    let run = |sizes: [(&str, u64); 6]| {
        let request = Request {
            accelerator: Some("fusemax-hbm".into()),
            mapping: "fusemax-binding".into(),
            sizes: sizes.map(|(n, s)| (n.to_string(), s)).into(),
            ..Request::default()
        };
        let report = request
            .run(&einflow_engine::catalog::Catalog::new())
            .unwrap();
        report.seconds()
    };
    // Four query heads that share a key head are four queries to it.
    let decode = [
        ("B", 4),
        ("H", 8),
        ("E", 128),
        ("F", 128),
        ("M", 2048),
        ("P", 4),
    ];
    assert_eq!(time(Kernel::Decode(shape)), run(decode));
    // Energy is the engine's ledger, power that over the time.
    let kernel = Kernel::Decode(shape);
    let found = fusemax.energy(&kernel, Seconds(time(kernel.clone())));
    let (joules, watts) = found.unwrap().unwrap();
    let request = Request {
        accelerator: Some("fusemax-hbm".into()),
        mapping: "fusemax-binding".into(),
        sizes: decode.map(|(n, s)| (n.to_string(), s)).into(),
        ..Request::default()
    };
    let report = request
        .run(&einflow_engine::catalog::Catalog::new())
        .unwrap();
    close(joules.0, report.energy_pj() * 1e-12, 1e-12);
    close(watts.0 * time(kernel.clone()), joules.0, 1e-12);
    let prefill = [
        ("B", 4),
        ("H", 8),
        ("E", 128),
        ("F", 128),
        ("M", 2048),
        ("P", 8192),
    ];
    assert_eq!(time(Kernel::Prefill(shape)), run(prefill));
    let causal = Attention {
        causal: true,
        ..shape
    };
    let half = time(Kernel::Prefill(causal)) / time(Kernel::Prefill(shape));
    // Half of the scores, and what diagonal tiles compute in vain.
    assert!((0.5..0.75).contains(&half), "{half}");
}

#[test]
fn predictions_stand_beside_what_was_measured() {
    let text = "device,framework,m,k,n,us\nh100_sxm,vllm-1,16,4096,4096,15\na100_sxm,vllm-1,16,4096,4096,25\nh100_pcie,vllm-1,64,4096,4096,\n";
    let table = Table::read(&Source::new("mine.csv", text), None).unwrap();
    let h100 = Answerer::load("h100", None).unwrap();
    let mut found = predict(&h100, &table).unwrap();
    assert_eq!((found.rows.len(), found.others), (2, 1));
    assert_eq!(
        found.columns,
        [("us".to_string(), "predicted_us".to_string())]
    );
    assert_eq!(found.rows[1].measured, [None]);
    let predicted = found.rows[0].predicted[0].unwrap();
    let groups = found.groups();
    assert_eq!(groups.len(), 2);
    close(groups[0].worst + 1.0, predicted / 15.0, 1e-12);
    found.add_cost(h100.device.price.unwrap());
    // 11.06 $ an hour.
    let cost = found.rows[0].predicted[1].unwrap();
    close(cost, predicted * 1e-6 * 11.06 / 3600.0, 1e-12);
}

#[test]
fn rows_are_named_whatever_ends_a_line() {
    for end in ["\n", "\r\n"] {
        let text = ["m,k,n,us", "1,2,3,4", "1,2,3,x", ""].join(end);
        let problems = Table::read(&Source::new("mine.csv", text), None).unwrap_err();
        let first = problems.iter().next().unwrap();
        assert!(
            first.message.starts_with("row 3, field `us`: `x`"),
            "{first:?}"
        );
        let (source, span) = first.place.as_ref().unwrap();
        assert_eq!(&source.text()[span.start..span.start + 7], "1,2,3,x");
    }
}

#[test]
fn every_device_of_the_library_loads() {
    for name in devices().names() {
        let answerer = Answerer::load(name, None).unwrap_or_else(|p| panic!("{name}: {p}"));
        assert_eq!(answerer.device.name, name);
    }
}

/// A card whose limit is lowered takes longer for what would draw more, and draws the limit meanwhile.
#[test]
fn a_lower_limit_slows_what_would_draw_more() {
    let (source, _) = devices().find("h200", None).unwrap();
    let with = |limit: &str, measured: &str| {
        let own =
            "limit: 700, // W\n        measured_limit: 700, // W, when the times were measured\n";
        assert!(source.text().contains(own));
        let text = source
            .text()
            .replace(own, &format!("{limit}\n{measured}\n"));
        Device::parse(&Source::new("mine.ron", text)).map(|d| Answerer::new(d, None).unwrap())
    };
    let task = product(4096);
    let Step::Call(call) = &task.steps[0] else {
        panic!()
    };
    let time = |device: &Answerer| device.time(&task).unwrap().time.0;
    let measured = time(&h200());
    // What it would draw: idle 124.8 W, running 251 W, 0.49 pJ an operation, 108 pJ a byte.
    let dynamic = 0.49e-12 * call.kernel.operations() + 108e-12 * call.kernel.bytes();
    let wanted = 124.8 + 251.0 + dynamic / measured;
    assert!((700.0..750.0).contains(&wanted), "{wanted}");
    for limit in [700.0, 450.0, 130.0] {
        let slow = with(&format!("limit: {limit},"), "").unwrap();
        let took = time(&slow);
        close(took, measured * (wanted - 124.8) / (limit - 124.8), 1e-12);
        let (joules, watts) = slow.energy(&call.kernel, Seconds(took)).unwrap().unwrap();
        close(watts.0, limit, 1e-12);
        // Beyond idling, the work takes what it took.
        close(joules.0 - 124.8 * took, (wanted - 124.8) * measured, 1e-12);
        let flags = slow.time(&task).unwrap().flags;
        assert_eq!(flags, [format!("slowed down to its limit of {limit} W")]);
    }
    // Above what it draws, a limit changes nothing; nor does one under which the times were measured.
    assert_eq!(time(&with("limit: 750,", "").unwrap()), measured);
    let same = with("limit: 450,", "measured_limit: 450,").unwrap();
    assert_eq!(time(&same), measured);
    let refused = with("limit: 124,", "").err().unwrap().to_string();
    assert!(refused.contains("124.8 W idle"), "{refused}");
}

/// 64 requests of 16384 tokens, 64 query heads on 8 key heads of width 128: 2 x 2 x 64 x 64 x 128 x 16384 operations a
/// layer, of which a memory's units do 30.2 T a second, and 16 for each of the words that they read at 30.168 TB/s.
#[test]
fn many_queries_a_key_head_are_bound_by_compute() {
    let of = |matrix: &str| {
        let text = format!(
            r#"(name: "pim", description: "compute beside the banks", source: "assumed",
            chip: (source: "assumed", units: 5, matrix: "{matrix}", memory: "80 GiB", bandwidth: "30.168 TB/s", cache: "1 MiB"),
            laws: {{ "decode": (source: "assumed", floor: 1, bandwidth: 1, ramp: 0.001, head: 0.001, combine: 0.001,
                unsplit: 1, cache_bandwidth: 1, cached: 1) }})"#
        );
        let device = Device::parse(&Source::new("pim.ron", text)).unwrap();
        let kernel = Kernel::Decode(Attention {
            batch: 64,
            heads: 64,
            key_heads: 8,
            width: 128,
            value_width: 128,
            length: 16384,
            causal: false,
            cached: Stored::BF16,
        });
        device.by_law("decode", &kernel, true).unwrap().0 * 1e6
    };
    let products = 4.0 * 64.0 * 64.0 * 128.0 * 16384.0 / 30.2e6;
    let words = 2.0 * 64.0 * 8.0 * 128.0 * 16385.0 * 2.0 / 30.168e6;
    assert!(products > 7.0 * words);
    // Beside the floor and what heads take, below 1 %.
    close(of("30.2 TFLOP/s"), products + 1.0, 0.01);
    close(of("30200 TFLOP/s"), words + 1.0, 0.01);
}

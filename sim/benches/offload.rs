//! Pools of devices: a whole trace served, backlogged and as it came, with layers passed over and without; reading the trace.

use criterion::{Criterion, criterion_group, criterion_main};
use einflow_serving::offload::{
    Scenario, System,
    serve::{Demand, Options, Unwatched, serve},
};

fn benches(c: &mut Criterion) {
    let scenario = Scenario::load("lamina-70b").expect("a shipped scenario");
    c.bench_function("read the Azure conversation trace", |b| {
        b.iter(|| Demand::read(&scenario));
    });
    let demand = Demand::read(&scenario).expect("an embedded trace");
    let system = System::new(scenario).expect("a shipped scenario");
    let mut group = c.benchmark_group("19366 requests, 4.1 million tokens on (2, 4)");
    group.sample_size(10);
    for arrivals in [false, true] {
        let Demand::Requests { list, source, .. } = &demand else {
            continue;
        };
        let demand = Demand::Requests {
            list: list.clone(),
            arrivals,
            left_out: Vec::new(),
            skips_too_large: false,
            speed_up: 1.0,
            source: source.clone(),
        };
        let when = if arrivals {
            "as they came"
        } else {
            "backlogged"
        };
        for jump in [true, false] {
            let how = if jump { "" } else { ", every layer" };
            let options = Options { jump, spans: 0 };
            group.bench_function(format!("{when}{how}"), |b| {
                b.iter(|| serve(&system, &demand, options, &Unwatched).map(|s| s.events));
            });
        }
    }
    group.finish();
}

criterion_group!(offload, benches);
criterion_main!(offload);

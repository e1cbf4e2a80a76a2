//! A sweep of 100 000 points, as `einflow sweep design-space` runs it, and reading the files of a run.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use einflow::sweep::{SweepFile, Watch, run};
use einflow_arch::{Accelerator, accelerators};
use einflow_mappings::{mappings, spec::MappingSpec};
use einflow_workloads::{cascade::Cascade, cascades};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Nobody;

impl Watch for Nobody {
    fn done(&self, _: u64) {}

    fn stop(&self) -> bool {
        false
    }
}

fn benches(c: &mut Criterion) {
    let embedded =
        |library: &einflow_spec::Library, name: &str| library.get(name).expect("it is embedded");
    let cascade = embedded(cascades(), "attention/one-pass");
    c.bench_function("parse and check attention/one-pass", |b| {
        b.iter(|| Cascade::parse(black_box(&cascade)))
    });
    let chip = embedded(accelerators(), "fusemax");
    c.bench_function("parse and check fusemax", |b| {
        b.iter(|| Accelerator::parse(black_box(&chip)))
    });
    let mapping = embedded(mappings(), "fusemax-binding");
    c.bench_function("parse and check fusemax-binding", |b| {
        b.iter(|| MappingSpec::parse(black_box(&mapping), None))
    });
    let sweep = SweepFile::load("design-space").expect("it is embedded");
    assert_eq!(sweep.points(), 100_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    c.bench_function("sweep design-space, 100 000 points", |b| {
        b.iter(|| run(black_box(&sweep), folder.path(), &Nobody))
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10);
    targets = benches
}
criterion_main!(all);

//! How fast the array engine is: an output-stationary product on 32 x 32 PEs, and one-pass attention on 8 x 8.

use std::{collections::BTreeMap, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use einflow_engine::array;
use einflow_engine::{catalog::Catalog, request::Request};
use einflow_mappings::mapped::MappedCascade;
use einflow_workloads::{cascade::TensorKind, interpret::Array};

fn inputs(mapped: &MappedCascade) -> BTreeMap<String, Array> {
    let cascade = &mapped.cascade;
    let given = cascade
        .tensors
        .iter()
        .filter(|t| t.kind == TensorKind::Input);
    given
        .map(|tensor| {
            let ranks = cascade.batch.iter().chain(&tensor.ranks);
            let shape: Vec<usize> = ranks
                .map(|r| {
                    mapped
                        .sizes
                        .get(&cascade.rank(*r).name)
                        .map_or(1, |s| *s as usize)
                })
                .collect();
            let data: Vec<f64> = (0..shape.iter().product())
                .map(|i| (i % 17) as f64 / 8.0 - 1.0)
                .collect();
            (tensor.name.clone(), Array::new(shape, data))
        })
        .collect()
}

fn bound(mapping: &str, sizes: &[(&str, u64)], overrides: &[(&str, f64)]) -> MappedCascade {
    let request = Request {
        mapping: mapping.into(),
        sizes: sizes.iter().map(|(n, s)| (n.to_string(), *s)).collect(),
        overrides: overrides.iter().map(|(n, v)| (n.to_string(), *v)).collect(),
        ..Request::default()
    };
    request
        .bind(&Catalog::default())
        .unwrap_or_else(|e| panic!("{mapping}: {e:?}"))
}

fn product(c: &mut Criterion) {
    let mapped = bound(
        "matmul-output-stationary",
        &[("M", 512), ("N", 512), ("K", 512)],
        &[],
    );
    let given = inputs(&mapped);
    let mut group = c.benchmark_group("array");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(512 * 512 * 512));
    group.bench_function("product 512^3 on 32 x 32", |b| {
        b.iter(|| array::run(black_box(&mapped), &given))
    });
    group.finish();
}

fn attention(c: &mut Criterion) {
    let chip = [
        ("array2d.rows", 8.0),
        ("array2d.columns", 8.0),
        ("array1d.columns", 8.0),
        ("buffer.row", 16.0),
    ];
    let sizes = [("B", 1), ("H", 2), ("E", 8), ("F", 8), ("M", 64), ("P", 64)];
    let mapped = bound("fusemax-binding", &sizes, &chip);
    let given = inputs(&mapped);
    let mut group = c.benchmark_group("array");
    group.sample_size(20);
    group.bench_function("attention 64 on 8 x 8", |b| {
        b.iter(|| array::run(black_box(&mapped), &given))
    });
    group.finish();
}

criterion_group!(benches, product, attention);
criterion_main!(benches);

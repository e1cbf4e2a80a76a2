#![allow(missing_docs)]
use std::{collections::BTreeMap, sync::Arc};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (mapping, accel, cascade) = (&a[1], &a[2], &a[3]);
    let len: u64 = a[4].parse().unwrap();
    let given: BTreeMap<String, u64> = [("B", 64), ("H", a[5].parse().unwrap()), ("E", a[6].parse().unwrap()), ("F", a[6].parse().unwrap()), ("M", len), ("P", len)].into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    let spec = einflow_mappings::spec::MappingSpec::parse(&einflow_mappings::mappings().find(mapping, None).unwrap().0, None).unwrap_or_else(|e| panic!("{e}"));
    let acc = einflow_arch::Accelerator::parse(&einflow_arch::accelerators().find(accel, None).unwrap().0).unwrap_or_else(|e| panic!("{e}"));
    let casc = einflow_workloads::cascade::Cascade::load(cascade, None).unwrap_or_else(|e| panic!("{e}"));
    let t = std::time::Instant::now();
    let m = match einflow_mappings::bind(&Arc::new(casc), &Arc::new(acc), &Arc::new(spec), &given) { Ok(m) => m, Err(e) => { println!("{e}"); return } };
    let t1 = t.elapsed();
    let t = std::time::Instant::now();
    for _ in 0..100 { einflow::analytic::count(&m).unwrap(); }
    let t2 = t.elapsed() / 100;
    let r = einflow::analytic::evaluate(&m).unwrap();
    println!("{}", einflow::render::run(&r));
    println!("bind {t1:?} count {t2:?}; s {} dram {:?} pj {:e} u2 {}", r.seconds(), r.dram_bytes(), r.energy_pj(), r.utilization("array2d"));
}

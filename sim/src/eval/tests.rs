use einflow_spec::Source;
use tempfile::TempDir;

use super::*;

/// `AV[p] = sum over m of A[m, p] V[m]`, with a tiled copy so that M0 is a parameter.
fn cascade() -> Cascade {
    let text = r##"(
        name: "test/weighted",
        source: "assumed",
        description: "A weighted sum.",
        batch: ["B", "H"],
        inputs: ["A[m, p]", "V[m]"],
        outputs: ["Z[p]", "L[m1, p]"],
        partitions: ["M -> M1, M0"],
        parameters: { "M0": 2 },
        einsums: r#"
            Z[p] = A[m, p] * V[m]
            BA[m1, m0, p] = A[m1*M0 + m0, p]
            L[m1, p] = BA[m1, m0, p] :: max(m0)
        "#,
    )"##;
    Cascade::parse(&Source::new("weighted.ron", text)).unwrap()
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new(arrays: &[(&str, Array, Element)]) -> Self {
        let folder = TempDir::new().unwrap();
        let bytes = npz::write(arrays.iter().map(|(n, a, e)| (*n, a, *e))).unwrap();
        fs::write(folder.path().join("in.npz"), bytes).unwrap();
        Self { folder }
    }

    fn request<'a>(&self, cascade: &'a Cascade) -> EvalRequest<'a> {
        EvalRequest {
            cascade,
            input: self.folder.path().join("in.npz"),
            output: Some(self.folder.path().join("out.npz")),
            number_format: NumberFormat::F64,
            accumulator: None,
            sizes: BTreeMap::new(),
            allow_nan: false,
            stored_as: StoredAs::default(),
        }
    }

    fn written(&self) -> BTreeMap<String, Stored> {
        npz::read(&self.folder.path().join("out.npz"), &StoredAs::default()).unwrap()
    }
}

fn array(shape: &[usize], data: &[f64]) -> Array {
    Array::new(shape, data)
}

/// M = 3, P = 2.
fn good() -> Vec<(&'static str, Array, Element)> {
    vec![
        (
            "A",
            array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            Element::F4,
        ),
        ("V", array(&[3], &[1.0, 10.0, 100.0]), Element::F2),
    ]
}

/// The messages, with the temporary folder left out.
fn say(arrays: &[(&str, Array, Element)], change: impl Fn(&mut EvalRequest<'_>)) -> String {
    let files = Files::new(arrays);
    let cascade = cascade();
    let mut request = files.request(&cascade);
    change(&mut request);
    let problems = eval(&request).unwrap_err().to_string();
    assert!(!files.folder.path().join("out.npz").exists());
    problems.replace(&format!("{}/", files.folder.path().display()), "")
}

fn with(name: &'static str, array: Array) -> Vec<(&'static str, Array, Element)> {
    let mut arrays = good();
    arrays.retain(|(other, ..)| *other != name);
    arrays.push((name, array, Element::F8));
    arrays
}

#[test]
fn outputs_are_written_and_reported() {
    let files = Files::new(&good());
    let cascade = cascade();
    let report = eval(&files.request(&cascade)).unwrap();
    assert_eq!(
        (report.number_format, report.accumulator),
        (NumberFormat::F64, NumberFormat::F64)
    );
    let sizes: Vec<_> = report
        .sizes
        .0
        .iter()
        .map(|(n, s)| (n.as_str(), *s))
        .collect();
    assert_eq!(
        sizes,
        [("B", 1), ("H", 1), ("M", 3), ("M0", 2), ("M1", 2), ("P", 2)]
    );
    let describe = |a: &EvalArray| (a.name.clone(), a.axes.join(" "), a.shape.clone(), a.element);
    let inputs: Vec<_> = report.inputs.iter().map(describe).collect();
    assert_eq!(
        inputs[0],
        ("A".into(), "M P".into(), vec![3, 2], Element::F4)
    );
    assert_eq!(inputs[1], ("V".into(), "M".into(), vec![3], Element::F2));
    let outputs: Vec<_> = report
        .outputs
        .iter()
        .map(|o| (describe(&o.array), o.empty, o.error))
        .collect();
    assert_eq!(
        outputs[0],
        (("Z".into(), "P".into(), vec![2], Element::F8), 0, None)
    );
    assert_eq!(
        outputs[1],
        (
            ("L".into(), "M1 P".into(), vec![2, 2], Element::F8),
            0,
            None
        )
    );
    let written = files.written();
    assert_eq!(written["Z"].array, array(&[2], &[531.0, 642.0]));
    assert_eq!(written["L"].array, array(&[2, 2], &[3.0, 4.0, 5.0, 6.0]));
    // The same bytes every time.
    let path = files.folder.path().join("out.npz");
    let bytes = fs::read(&path).unwrap();
    eval(&files.request(&cascade)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn sizes_formats_and_batches() {
    let batched = array(
        &[2, 3, 2],
        &[
            1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.01,
        ],
    );
    let files = Files::new(&with("A", batched));
    let cascade = cascade();
    let mut request = files.request(&cascade);
    request.sizes.insert("M0".into(), 3);
    request.number_format = NumberFormat::Bf16;
    let report = eval(&request).unwrap();
    assert_eq!(
        (
            report.accumulator,
            report.sizes.get("H"),
            report.sizes.get("M1")
        ),
        (NumberFormat::F32, Some(2), Some(1))
    );
    assert_eq!(report.inputs[0].axes, ["H", "M", "P"]);
    let written = files.written();
    // bf16 goes into f4; 60.01 is 60 in it; 531 is 532 (8 bits: multiples of 4).
    assert_eq!(
        written["L"],
        Stored {
            array: array(&[2, 1, 2], &[5.0, 6.0, 50.0, 60.0]),
            element: Element::F4
        }
    );
    assert_eq!(written["Z"].array.data[0], 532.0);
    request.number_format = NumberFormat::F16;
    request.accumulator = Some(NumberFormat::F64);
    let report = eval(&request).unwrap();
    assert_eq!(report.accumulator, NumberFormat::F64);
    assert_eq!(files.written()["Z"].element, Element::F2);
    // A size that shapes fix may be repeated.
    request.sizes.insert("M".into(), 3);
    assert!(eval(&request).is_ok());
}

#[test]
fn references_in_the_file_give_the_error() {
    let mut arrays = good();
    arrays.push(("Z", array(&[2], &[531.5, 640.0]), Element::F8));
    let files = Files::new(&arrays);
    let cascade = cascade();
    let report = eval(&files.request(&cascade)).unwrap();
    assert_eq!(
        report.outputs[0].error,
        Some(EvalError {
            absolute: 2.0,
            relative: 2.0 / 640.0
        })
    );
    assert_eq!(report.outputs[1].error, None);
    let inf = f64::INFINITY;
    let error = |a: &[f64], b: &[f64]| {
        let error = compare("Z", &array(&[a.len()], a), &array(&[b.len()], b)).unwrap();
        (error.absolute, error.relative)
    };
    assert_eq!(
        error(&[-inf, 1.0, f64::NAN], &[-inf, 2.0, f64::NAN]),
        (1.0, 0.5)
    );
    assert_eq!(error(&[1.0], &[-inf]).0, inf);
    assert_eq!(error(&[f64::NAN], &[1.0]).0, inf);
    assert_eq!(error(&[0.0], &[0.0]), (0.0, 0.0));
}

#[test]
fn minus_infinity_is_a_value_and_nan_is_refused() {
    let a = [f64::NEG_INFINITY, 2.0, f64::NEG_INFINITY, 4.0, 5.0, 6.0];
    let files = Files::new(&with("A", array(&[3, 2], &a)));
    let cascade = cascade();
    eval(&files.request(&cascade)).unwrap();
    assert_eq!(
        files.written()["L"].array.data,
        [f64::NEG_INFINITY, 4.0, 5.0, 6.0]
    );

    let nan = array(&[3, 2], &[1.0, 2.0, 3.0, f64::NAN, 5.0, f64::NAN]);
    assert_eq!(
        say(&with("A", nan.clone()), |_| ()),
        "the array `A` of in.npz holds NaN at [1, 1] (--allow-nan accepts it)"
    );
    let files = Files::new(&with("A", nan));
    let mut request = files.request(&cascade);
    request.allow_nan = true;
    eval(&request).unwrap();
    let z = &files.written()["Z"].array;
    assert!(z.data[0] == 531.0 && z.data[1].is_nan());
    assert!(files.written()["L"].array.data[1].is_nan());
}

#[test]
fn every_wrong_array_is_named() {
    let check = |arrays: &[(&str, Array, Element)], expected: &str| {
        assert_eq!(say(arrays, |_| ()), expected)
    };
    check(
        &good()[..1],
        "in.npz lacks the array `V` (its axes are [M])",
    );
    check(
        &with("W", array(&[1], &[1.0])),
        "in.npz holds the array `W`, which test/weighted neither reads nor makes (known: A, V, Z, L)",
    );
    check(
        &with("A", array(&[3], &[1.0; 3])),
        "the array `A` has 1 axes, expected 2 (its axes are [M, P], with any of [B, H] in front)",
    );
    check(
        &with("A", array(&[1, 1, 1, 3, 2], &[1.0; 6])),
        "the array `A` has 5 axes, expected 2 (its axes are [M, P], with any of [B, H] in front)",
    );
    check(
        &with("V", array(&[4], &[1.0; 4])),
        "axis 0 of `V` (M) has length 4, expected 3 as axis 0 of `A`",
    );
    check(
        &with("A", array(&[3, 0], &[])),
        "axis 1 of `A` (P) has length 0 (every axis has at least one element)",
    );
    check(
        &[
            ("A", array(&[2, 3, 2], &[1.0; 12]), Element::F8),
            ("V", array(&[1, 2, 3], &[1.0; 6]), Element::F8),
        ],
        "the array `V` has 2 batch axes in front, but `A` has 1 (all arrays that carry a batch carry the same)",
    );
    check(
        &[
            ("A", array(&[2, 3, 2], &[1.0; 12]), Element::F8),
            ("V", array(&[3, 3], &[1.0; 9]), Element::F8),
        ],
        "axis 0 of `V` (H) has length 3, expected 2 as axis 0 of `A`",
    );
    check(
        &with("Z", array(&[3], &[1.0; 3])),
        "the array `Z` to compare with has shape [3], but the output has [2]",
    );
    // All at once.
    let several = [
        ("A", array(&[3, 2], &[f64::NAN; 6]), Element::F8),
        ("U", array(&[1], &[1.0]), Element::F8),
    ];
    check(
        &several,
        "in.npz lacks the array `V` (its axes are [M])\n\
         in.npz holds the array `U`, which test/weighted neither reads nor makes (known: A, V, Z, L)\n\
         the array `A` of in.npz holds NaN at [0, 0] (--allow-nan accepts it)",
    );
}

#[test]
fn wrong_sizes_are_named() {
    let with_size = |arrays: &[(&str, Array, Element)], name: &str, size: u64| {
        say(arrays, |request| {
            request.sizes.extend([(name.to_string(), size)])
        })
    };
    let size = |name: &str, size: u64| with_size(&good(), name, size);
    assert_eq!(
        size("M", 4),
        "M is given as 4, but axis 0 of `A` has length 3 (leave it out: the arrays fix it)"
    );
    assert!(
        size("MO", 4).starts_with("test/weighted has no rank or parameter `MO` (did you mean `M")
    );
    assert!(size("M0", 0).starts_with("the size of `M0` is 0"));
    assert!(size("M1", 7).contains("M1"));
    // A tile as large as sizes go makes a tensor that is refused before it is made.
    assert_eq!(
        with_size(&with("A", array(&[3, 20], &[1.0; 60])), "M0", 1 << 24),
        "`BA` would hold more than 268435456 elements: its ranks have the sizes [1, 16777216, 20]"
    );
}

#[test]
fn every_truncated_file_is_an_error() {
    let files = Files::new(&good());
    let cascade = cascade();
    let request = files.request(&cascade);
    let whole = fs::read(&request.input).unwrap();
    for length in 0..whole.len() {
        fs::write(&request.input, &whole[..length]).unwrap();
        let problems = eval(&request).unwrap_err().to_string();
        assert!(problems.contains("in.npz"), "{length}: {problems}");
    }
    fs::remove_file(&request.input).unwrap();
    assert!(
        eval(&request)
            .unwrap_err()
            .to_string()
            .starts_with("there is no file ")
    );
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let files = Files::new(&good());
    let cascade = cascade();
    let mut request = files.request(&cascade);
    request.output = Some(files.folder.path().join("missing/out.npz"));
    assert!(
        eval(&request)
            .unwrap_err()
            .to_string()
            .starts_with("cannot write ")
    );
    request.output = None;
    assert!(eval(&request).is_ok());
}

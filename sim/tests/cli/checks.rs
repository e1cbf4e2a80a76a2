//! `run --check`: what is asked of the whole is what the miniature and the one query try.

use einflow_mappings::mappings;
use einflow_workloads::cascades;
use serde_json::Value;

use crate::support::{edited, einflow_in, folder};

/// The check of a run in a folder of these files, and the exit code.
fn checked(files: &[(&str, String)], line: &str) -> (Value, i32) {
    let folder = folder(files);
    let line = format!("run --mapping ./map.ron {line} --check --format json");
    let run = einflow_in(folder.path(), &line.split(' ').collect::<Vec<_>>());
    let report: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{}", run.stderr));
    (report["check"].clone(), run.code)
}

/// A mapping of one Einsum on the 2D array of FuseMax's chip, whose 256 columns take one rank.
fn on_columns(workload: &str, rank: &str, loops: &str, einsum: &str) -> String {
    format!(
        "(name: \"map\", source: \"s\", workload: \"{workload}\", accelerator: \"fusemax\", \
         sizes: {{\"{rank}0\": \"array2d.columns\"}}, splits: {{\"{rank}\": [\"{rank}1\", \"{rank}0\"]}}, \
         blocks: [(name: \"a\", loops: [{loops}], keep: {{\"X\": [(memory: \"buffer\")]}}, \
         einsums: {{ {einsum} }})])"
    )
}

/// The shipped causal mapping with another mask.
fn masked(condition: &str, parameters: &str) -> Vec<(&'static str, String)> {
    let causal = "m1*M0 + m0 <= p";
    let cascade = edited(
        cascades(),
        "attention/one-pass-causal",
        &[
            (causal, condition),
            ("\"M0\": 16", &format!("\"M0\": 16{parameters}")),
        ],
    );
    let workload = "workload: \"attention/one-pass-causal\"";
    let map = edited(
        mappings(),
        "fusemax-causal",
        &[(workload, "workload: \"own.ron\"")],
    );
    vec![("own.ron", cascade), ("map.ron", map)]
}

const WINDOW: &str = "m1*M0 + m0 <= p, p - m1*M0 - m0 < WIDTH";

#[test]
fn windows_stay_windows() {
    let files = masked(WINDOW, ", \"WIDTH\": 512");
    // Tiles of 256 keys are 8 in miniature: a window of two tiles is one of 16 keys, and one of 4 within a tile stays.
    for (width, small) in [(512, 16), (4, 4), (700, 22)] {
        let line = format!("--model bert --length 2K --size WIDTH={width}");
        let (check, code) = checked(&files, &line);
        assert_eq!(check["miniature"]["sizes"]["WIDTH"], small, "{check}");
        assert_eq!(check["miniature"]["sizes"]["M"], 64);
        assert_eq!(check["real_length"]["keys_seen"], width);
        assert_eq!(code, 0);
    }
    // One that holds every key still does.
    let (check, _) = checked(&files, "--model bert --length 2K --size WIDTH=4096");
    assert!(
        check["miniature"]["sizes"]["WIDTH"].as_u64().unwrap() >= 64,
        "{check}"
    );
}

/// A bias for each distance of a key and a query: as many in miniature as there are there, and what the model calls D is
/// none of the cascade's.
#[test]
fn distances_are_as_many_as_keys_and_queries_leave() {
    let rel = r##"(name: "rel", source: "s", description: "d", inputs: ["X[m, p]", "B[d]"], outputs: ["T[m, p]"],
        parameters: {"D": "= M + P - 1"}, einsums: "T[m, p] = X[m, p] + B[m + P - 1 - p]")"##;
    let einsum = r#""T": (unit: "array2d", columns: "p0", loops: ["m"])"#;
    let map = on_columns("own.ron", "P", "\"p1\"", einsum);
    let map = map.replace("\"X\"", "\"B\": [(memory: \"buffer\")], \"X\"");
    let files = [("own.ron", rel.to_string()), ("map.ron", map)];
    let (check, code) = checked(&files, "--model bert --length 700");
    let sizes = &check["miniature"]["sizes"];
    // 700 queries in tiles of 256 are two and a part of 188: 8, 8 and 5 of 8.
    assert_eq!(
        (&sizes["P"], &sizes["M"], &sizes["D"]),
        (&21.into(), &8.into(), &28.into())
    );
    assert_eq!(code, 0, "{check}");
}

/// A width that the cascade writes as a number is no size that could shrink.
#[test]
fn masks_without_effect_in_miniature_are_named() {
    let files = masked("m1*M0 + m0 <= p, p - m1*M0 - m0 < 512", "");
    let (check, code) = checked(&files, "--model bert --length 2K");
    assert_eq!(
        check["miniature"]["not_checked"][0], "p - m1 * M0 - m0 < 512",
        "{check}"
    );
    assert_eq!(code, 1);
    let (_, code) = checked(&masked("m1*M0 + m0 <= p", ""), "--model bert --length 2K");
    assert_eq!(code, 0);
}

#[test]
fn the_query_at_the_real_length_sees_the_most_keys() {
    for (condition, query, keys) in [
        ("m1*M0 + m0 <= p", 2047, 2048),
        ("m1*M0 + m0 >= p", 0, 2048),
        ("m1*M0 + m0 <= p + M - P", 2047, 2048),
        ("m1*M0 + m0 < p / 4 or m1*M0 + m0 == 7", 2047, 511),
        ("(m1*M0 + m0) % 8 == p % 8", 2047, 256),
    ] {
        let (check, _) = checked(&masked(condition, ""), "--model bert --length 2K");
        let real = &check["real_length"];
        assert_eq!(real["query"], query, "{condition}: {check}");
        assert_eq!(real["keys_seen"], keys, "{condition}: {check}");
        let all = real["reference"] == "softmax attention";
        assert_eq!(all, keys == 2048, "{condition}: {check}");
    }
}

/// Under a causal mask the last query adds up as many terms as one without a mask, which 16 bits cannot.
#[test]
fn causal_denominators_stop_growing_as_others_do() {
    let stagnation = |mapping: &str| {
        let line = format!(
            "run --mapping {mapping} --model bert --length 128K --size B=1 --size H=1 --check --format json"
        );
        let run = einflow_in(folder(&[]).path(), &line.split(' ').collect::<Vec<_>>());
        run.json()["check"]["real_length"]["stagnation"].clone()
    };
    let causal = stagnation("fusemax-causal");
    assert_eq!(causal, stagnation("fusemax-binding"));
    assert!(
        causal["relative_error"]
            .as_f64()
            .is_some_and(|e| (0.2..0.4).contains(&e)),
        "{causal}"
    );
}

#[test]
fn several_queries_share_a_key_head_in_miniature() {
    let cascade = "(name: \"own\", source: \"s\", description: \"d\", batch: [\"B\"], inputs: [\"Q[e, p, h]\", \"X[e, m, g]\"], \
                   outputs: [\"S[m, p, h]\"], parameters: {\"G\": \"ceil(H / 4)\"}, \
                   einsums: \"S[m, p, h] = Q[e, p, h] * X[e, m, h / ceil(H / G)]\")";
    let einsum = "\"S\": (unit: \"array2d\", columns: \"m0\", loops: [\"e\"])";
    let map = on_columns("own.ron", "M", "\"b\", \"h\", \"p\", \"m1\"", einsum);
    let files = [("own.ron", cascade.to_owned()), ("map.ron", map)];
    for (heads, groups, small) in [
        (32, 8, 2),
        (28, 4, 2),
        (64, 1, 1),
        (12, 12, 8),
        (6, 2, 2),
        (40, 8, 2),
    ] {
        let line = format!(
            "--length 512 --size B=1 --size E=16 --size P=2 --size M=512 --size H={heads} --size G={groups}"
        );
        let (check, code) = checked(&files, &line);
        let sizes = &check["miniature"]["sizes"];
        assert_eq!(sizes["G"], small.min(groups), "{heads} / {groups}: {check}");
        assert_eq!(sizes["H"], heads.min(8));
        assert_eq!(code, 0, "{check}");
    }
}

#[test]
fn halos_and_strides_have_a_miniature() {
    let einsum = "\"Y\": (unit: \"array2d\", columns: \"i0\", loops: [\"w\"])";
    let map = on_columns("own.ron", "I", "\"i1\"", einsum);
    let stride = "(name: \"own\", source: \"s\", description: \"d\", inputs: [\"X[m]\", \"C[w]\"], outputs: [\"Y[i]\"], \
                  parameters: {\"W\": 4, \"ST\": 2, \"I\": \"= (M - W) / ST + 1\"}, \
                  einsums: \"Y[i] = X[i*ST + w] * C[w]\")";
    let files = [("own.ron", stride.to_owned()), ("map.ron", map.clone())];
    // 1022 / 2 = 511 windows are two tiles of 256, the last of 255: 8 + 7 = 15 in miniature, of 32 inputs.
    let (check, code) = checked(&files, "--size M=1024");
    let sizes = &check["miniature"]["sizes"];
    assert_eq!(
        (&sizes["I"], &sizes["M"]),
        (&Value::from(15), &Value::from(32)),
        "{check}"
    );
    assert_eq!(
        (&sizes["ST"], &sizes["W"]),
        (&Value::from(2), &Value::from(4))
    );
    assert_eq!(code, 0);
    let (check, code) = checked(&files, "--size M=5000 --size ST=3 --size W=7");
    assert_eq!(
        (&check["miniature"]["sizes"]["ST"], code),
        (&Value::from(3), 0),
        "{check}"
    );

    let halo = "(name: \"own\", source: \"s\", description: \"d\", inputs: [\"X[i]\", \"C[w]\"], outputs: [\"Y[i]\"], \
                parameters: {\"W\": 5, \"D\": 1}, einsums: \"Y[i] = X[i + D*w - D*2] * C[w]\")";
    let files = [("own.ron", halo.to_owned()), ("map.ron", map)];
    for (line, dilation) in [("--size I=2048", 1), ("--size I=2048 --size D=2", 2)] {
        let (check, code) = checked(&files, line);
        assert_eq!(check["miniature"]["sizes"]["I"], 64, "{check}");
        assert_eq!(check["miniature"]["sizes"]["D"], dilation);
        // Nothing runs along keys: that is no failure.
        assert_eq!(code, 0);
    }
    // Taps that reach far, but within the rows, reach as far in miniature.
    let (check, _) = checked(&files, "--size I=2048 --size D=300");
    let reach = check["miniature"]["sizes"]["D"].as_u64().unwrap();
    assert!((2..32).contains(&reach), "{check}");
}

/// Gates of standard normal numbers make a state grow without bound: there is no number to compare.
#[test]
fn values_that_are_no_numbers_fail() {
    let cascade = "(name: \"own\", source: \"s\", description: \"d\", inputs: [\"X[m]\", \"A[m]\"], outputs: [\"S[m]\"], \
                   einsums: \"R[0] = 1; R[m+1] = 9 * R[m] + A[m] * A[m]; S[m] = R[m+1] * X[m]\")";
    let map = "(name: \"map\", source: \"s\", workload: \"own.ron\", accelerator: \"fusemax\", \
               blocks: [(name: \"a\", loops: [\"m\"], keep: {\"R\": [(memory: \"buffer\")]}, einsums: { \
               \"R\": (unit: \"array1d\"), \"S\": (unit: \"array1d\") })])";
    let files = [("own.ron", cascade.to_owned()), ("map.ron", map.to_owned())];
    let (check, code) = checked(&files, "--size M=1000");
    let error = check["real_length"]["error"].as_str().unwrap_or_default();
    assert_eq!(
        (error, code),
        ("`S` is NaN or infinite in 64 bits", 1),
        "{check}"
    );
    let (_, code) = checked(&files, "--size M=30");
    assert_eq!(code, 0);
}

//! Traces as others publish them are the same requests.
#![allow(clippy::unwrap_used)]

use einflow_serving::offload::serve::trace::{
    Arrival, Columns, LeftOut, Prefixes, Reading, Skip, read,
};
use einflow_spec::{Problems, Source};

fn timed() -> Reading {
    Reading {
        arrivals: true,
        ..Reading::default()
    }
}

fn list(name: &str, text: &str, how: &Reading) -> (Vec<Arrival>, Vec<LeftOut>) {
    read(&Source::new(name, text.to_string()), how).unwrap()
}

fn problems(text: &str, how: &Reading) -> Problems {
    read(&Source::new("trace", text.to_string()), how).unwrap_err()
}

/// When requests come, and their tokens.
fn plain(list: &[Arrival]) -> Vec<(f64, u64, u64)> {
    list.iter()
        .map(|r| (r.at.0, r.prompt, r.generated))
        .collect()
}

/// Three requests, 0.25 s and 1.5 s apart, in the form of each publisher; clocks begin anywhere.
const FORMS: [(&str, &str); 8] = [
    (
        "einflow",
        "arrival_s,prompt_tokens,generated_tokens\n7,374,44\n7.25,396,109\n8.75,879,55\n",
    ),
    (
        "Azure 2023",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,374,44\n2023-11-16 23:59:59.7500000,396,109\n2023-11-17 00:00:01.2500000,879,55\n",
    ),
    (
        "Azure 2024",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,374,44\n2024-05-10 00:00:00.259930+00:00,396,109\n2024-05-10 00:00:01.759930+00:00,879,55\n",
    ),
    (
        "BurstGPT",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,374,44,418,Conversation log\n5.25,GPT-4,396,109,505,Conversation log\n6.75,ChatGPT,879,55,934,API log\n",
    ),
    (
        "Vidur",
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n0.25,396,109\n1.75,879,55\n",
    ),
    (
        "Mooncake",
        "{\"timestamp\": 27000, \"input_length\": 374, \"output_length\": 44, \"hash_ids\": [0]}\n{\"timestamp\": 27250, \"input_length\": 396, \"output_length\": 109, \"hash_ids\": [0]}\n{\"timestamp\": 28750, \"input_length\": 879, \"output_length\": 55, \"hash_ids\": [0, 1]}\n",
    ),
    (
        "Qwen",
        "{\"chat_id\": 159, \"parent_chat_id\": -1, \"timestamp\": 61.25, \"input_length\": 374, \"output_length\": 44, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [1]}\n{\"chat_id\": 160, \"parent_chat_id\": -1, \"timestamp\": 61.5, \"input_length\": 396, \"output_length\": 109, \"type\": \"text\", \"turn\": 1, \"hash_ids\": [2]}\n{\"chat_id\": 161, \"parent_chat_id\": 159, \"timestamp\": 63.0, \"input_length\": 879, \"output_length\": 55, \"type\": \"text\", \"turn\": 2, \"hash_ids\": [1, 3]}\n",
    ),
    (
        "a clock before its zero, CR LF",
        "arrival_s,prompt_tokens,generated_tokens\r\n-0.25,374,44\r\n0,396,109\r\n1.5,879,55\r\n",
    ),
];

#[test]
fn published_forms_are_the_same_requests() {
    let wanted = [(0.0, 374, 44), (0.25, 396, 109), (1.75, 879, 55)];
    for (name, text) in FORMS {
        let (found, left_out) = list(name, text, &timed());
        assert_eq!(plain(&found), wanted, "{name}");
        assert!(left_out.is_empty());
    }
}

/// A tenth of a microsecond of a clock of today is less than a double tells apart.
#[test]
fn late_clocks_keep_their_digits() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,1,1\n2023-11-16 18:15:46.6805901,1,1\n";
    assert_eq!(list("t", text, &timed()).0[1].at.0, 1e-7);
    let text = "arrival_s,prompt_tokens,generated_tokens\n1700158546.6805900,1,1\n1700158546.6805901,1,1\n";
    assert_eq!(list("t", text, &timed()).0[1].at.0, 1e-7);
}

#[test]
fn other_columns_are_named() {
    let how = Reading {
        columns: Columns {
            arrival_ms: Some("t".into()),
            prompt: Some("in".into()),
            generated: Some("out".into()),
            ..Columns::default()
        },
        ..timed()
    };
    let text = "id,in,out,t\na,374,44,100\nb,396,109,350\n";
    assert_eq!(
        plain(&list("t", text, &how).0),
        [(0.0, 374, 44), (0.25, 396, 109)]
    );
    let text =
        "{\"t\": 100, \"in\": 374, \"out\": 44}\n\n{\"t\": 350, \"in\": 396, \"out\": 109}\n";
    let (found, _) = list("t", text, &how);
    assert_eq!(plain(&found), [(0.0, 374, 44), (0.25, 396, 109)]);
    assert_eq!(found[1].row, 3);
    // A byte order mark is no part of it; what follows the first requests is not looked at.
    let first = Reading {
        most: Some(1),
        skip: vec![Skip::Empty],
        ..how.clone()
    };
    let text =
        "\u{feff}{\"t\": 100, \"in\": 374, \"out\": 44}\n{\"t\": 350, \"in\": 396, \"out\": 0}\n";
    let (found, left_out) = list("t", text, &first);
    assert_eq!((plain(&found), left_out.len()), (vec![(0.0, 374, 44)], 0));
    // One name alone: the rest as the form has it.
    let how = Reading {
        columns: Columns {
            generated: Some("Total tokens".into()),
            ..Columns::default()
        },
        ..timed()
    };
    assert_eq!(plain(&list("t", FORMS[3].1, &how).0)[0], (0.0, 374, 418));
}

#[test]
fn what_is_wrong_is_refused_or_left_out() {
    let text = "arrival_s,prompt_tokens,generated_tokens\n0,5,3\n2,0,3\n1,5,0\n1.5,7,1\n0.5,7,1\n";
    let found = problems(text, &timed());
    let messages: Vec<String> = found.iter().map(|p| p.message.clone()).collect();
    assert_eq!(
        messages,
        [
            "row 3: a request of 0 tokens that wants 3",
            "row 4: a request of 5 tokens that wants 0",
            "row 6: it comes before the request that is listed before it",
        ]
    );
    let how = Reading {
        skip: vec![Skip::Empty, Skip::Unordered],
        ..timed()
    };
    let (found, left_out) = list("t", text, &how);
    assert_eq!(plain(&found), [(0.0, 5, 3), (1.5, 7, 1)]);
    let left: Vec<_> = left_out.iter().map(|l| (l.why, l.count, l.first)).collect();
    assert_eq!(left, [("without tokens", 2, 3), ("out of order", 1, 6)]);
}

#[test]
fn mistakes_have_their_places() {
    let at = |text: &str, how: &Reading| {
        let all = problems(text, how);
        let first = all.iter().next().unwrap();
        let (source, span) = first.place.clone().unwrap();
        let place = source.locate(span.start);
        ((place.line, place.column), first.message.clone())
    };
    let (place, message) = at(
        "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 3}\n{\"timestamp\": 1, \"input_length\": -5, \"output_length\": 3}\n",
        &timed(),
    );
    assert_eq!(place, (2, 1));
    assert_eq!(
        message,
        "row 2, field `input_length`: `-5` is not a whole number of tokens up to 2^40"
    );
    let (place, message) = at("{\"timestamp\": 0,\n", &timed());
    assert_eq!(place, (1, 1));
    assert!(
        message.starts_with("row 1: no JSON object on one line"),
        "{message}"
    );
    let (_, message) = at("when,ContextTokens,GeneratedTokens\n0,1,1\n", &timed());
    assert_eq!(message, "a request trace lacks `TIMESTAMP`");
    let (_, message) = at("num_prefill_tokens,num_decode_tokens\n1,1\n", &timed());
    assert_eq!(message, "the trace does not say when requests come");
}

/// 8 characters are two tokens, 9 are three; the third turn is not looked at.
#[test]
fn conversations_are_estimated() {
    let text = r#"[{"id": "a", "conversations": [{"from": "human", "value": "12345678"}, {"from": "gpt", "value": "äbcdefghi"}, {"from": "human", "value": "x"}]},
        {"id": "b", "conversations": [{"from": "human", "value": "1"}]}]"#;
    let how = Reading {
        skip: vec![Skip::Empty],
        ..Reading::default()
    };
    let (found, left_out) = list("t", text, &how);
    assert_eq!(plain(&found), [(0.0, 2, 3)]);
    assert_eq!(left_out[0].count, 1);
    assert!(
        problems(text, &timed())
            .iter()
            .next()
            .unwrap()
            .message
            .contains("do not say when")
    );
}

/// What the first blocks of each request hold, of those that others hold too: told apart by where they first are.
fn contents(text: &str, prefixes: Prefixes) -> Result<Vec<Vec<u32>>, Problems> {
    let how = Reading {
        prefixes: Some(prefixes),
        ..Reading::default()
    };
    let (list, _) = read(&Source::new("trace", text.to_string()), &how)?;
    let own = |r: &Arrival| r.shared.blocks().to_vec();
    Ok(list.iter().map(own).collect())
}

/// Blocks of 16 tokens, hashes of 512: the first and the third prompt share all 62 full blocks of their 1000 tokens, the
/// second the 32 of the first hash; the fourth is alone.
#[test]
fn hashes_say_which_prompts_begin_alike() {
    let line = |prompt: u64, ids: &str| {
        format!(
            "{{\"timestamp\": 0, \"input_length\": {prompt}, \"output_length\": 1, \"hash_ids\": [{ids}]}}\n"
        )
    };
    let text = [
        line(1000, "7, 8"),
        line(900, "7, 9"),
        line(1000, "7, 8"),
        line(100, "5"),
    ];
    let of16 = Prefixes {
        block: 16,
        ..Prefixes::default()
    };
    let found = contents(&text.concat(), of16).unwrap();
    let lengths: Vec<usize> = found.iter().map(Vec::len).collect();
    assert_eq!(lengths, [62, 32, 62, 0]);
    assert_eq!(found[0], found[2]);
    assert_eq!(found[0][..32], found[1]);
    // The same from a table, where hashes are any text.
    let table = "arrival_s,prompt_tokens,generated_tokens,hash_ids\n\
        0,1000,1,\"[a1, b2]\"\n0,900,1,a1 c3\n0,1000,1,a1;b2\n0,100,1,d4\n";
    assert_eq!(contents(table, of16).unwrap(), found);
    // A block that reaches beyond what both hashes stand for is not known to be alike: 600 = 512 + 88.
    let of600 = Prefixes {
        block: 600,
        ..Prefixes::default()
    };
    let lengths: Vec<usize> = contents(table, of600)
        .unwrap()
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(lengths, [1, 0, 1, 0]);
    // Of 128 tokens a hash the first prompt had eight.
    let of128 = Prefixes {
        hash_block: Some(128),
        ..of16
    };
    let said = contents(table, of128).unwrap_err().to_string();
    assert!(
        said.contains(
            "row 2: 2 block hashes of a prompt of 1000 tokens, which has 8 blocks of 128"
        ),
        "{said}"
    );
}

/// Blocks of four tokens. The second request begins as the first with its answer does: two blocks of its prompt are the
/// first one's prompt, the third is prompt and answer. The third request differs in the first token of the second block.
#[test]
fn tokens_say_which_requests_begin_alike() {
    let text = "{\"arrival_time_ns\": 5, \"input_toks\": 9, \"output_toks\": 3, \"input_tok_ids\": [1,2,3,4,5,6,7,8,9], \"output_tok_ids\": [10,11,12]}\n\
        {\"arrival_time_ns\": 2000000005, \"input_toks\": 13, \"output_toks\": 1, \"input_tok_ids\": [1,2,3,4,5,6,7,8,9,10,11,12,13], \"output_tok_ids\": [14]}\n\
        {\"arrival_time_ns\": 2000000005, \"input_toks\": 8, \"output_toks\": 1, \"input_tok_ids\": [1,2,3,4,0,6,7,8], \"output_tok_ids\": [14]}\n";
    let of4 = Prefixes {
        block: 4,
        ..Prefixes::default()
    };
    let found = contents(text, of4).unwrap();
    assert_eq!(found, [vec![0, 1, 2], vec![0, 1, 2], vec![0]]);
    let (list, _) = list("workload", text, &timed());
    assert_eq!(plain(&list)[1], (2.0, 13, 1));
    let hashed = Prefixes {
        hash_block: Some(4),
        ..of4
    };
    let said = contents(text, hashed).unwrap_err().to_string();
    assert!(said.contains("the trace has no such hashes"), "{said}");
    let short = text.replace("[1,2,3,4,0,6,7,8]", "[1,2,3]");
    let said = contents(&short, of4).unwrap_err().to_string();
    assert!(
        said.contains("row 3: 3 tokens are listed of a prompt of 8"),
        "{said}"
    );
}

/// Three quarters of each prompt, in whole blocks: 12 of 16 tokens, 3 of 4 and none of 3.
#[test]
fn a_stated_share_begins_all_prompts() {
    let text = "arrival_s,prompt_tokens,generated_tokens\n0,16,1\n0,8,1\n0,3,1\n";
    let stated = Prefixes {
        block: 3,
        share: Some(0.75),
        ..Prefixes::default()
    };
    assert_eq!(
        contents(text, stated).unwrap(),
        [vec![0, 1, 2, 3], vec![0, 1], vec![]]
    );
}

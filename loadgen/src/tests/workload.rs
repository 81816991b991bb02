//! Tests of the workload as it is typed: flags and files, right and wrong.

use proptest::prelude::*;

use super::*;

fn none(path: &str) -> Result<String, String> {
    Err(format!("cannot read {path}: no such file"))
}

fn flags(flags: &[&str]) -> Result<Workload, String> {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Workload::of_flags(&flags, &none)
}

const FILE: &str = r#"
rate = "20k"
arrival = "constant"

[[class]]
name = "control"
share = "5%"
size = 64
lifetime = "2ms"
immediate = true

[[class]]
name = "bulk"
size = "uniform:1KiB:16KiB"
niceness = 2
"#;

#[test]
fn flags_and_a_file_say_the_same() {
    let file = Workload::of_file(FILE, &none).expect("a good file");
    let same = flags(&[
        "name=control,share=5%,size=64,lifetime=2ms,immediate",
        "name=bulk,size=uniform:1KiB:16KiB,niceness=2",
    ]);
    assert_eq!(file.workload, same.expect("good flags"));
    assert_eq!((file.rate.as_deref(), file.arrival.as_deref()), (Some("20k"), Some("constant")));
    let [control, bulk] = &file.workload.classes[..] else { panic!("two classes") };
    assert!((control.share, bulk.share) == (0.05, 0.95) && control.immediate);
    assert!(control.tells_lifetime && bulk.deadline.is_none());
}

#[test]
fn a_faulty_file_is_said_with_line_and_key() {
    let faults = [
        (FILE.replace("niceness = 2", "niceness = -2"), "line 15: niceness: \"-2\""),
        (FILE.replace("niceness = 2", "nicenes = 2"), "line 15: nicenes: there is no such key"),
        (FILE.replace("\"2ms\"", "2"), "line 9: lifetime: not a time"),
        (FILE.replace("\"2ms\"", "[2]"), "line 9: lifetime: write a text"),
        (FILE.replace("size = 64", "size = \"cdf:f\""), "line 8: size: cannot read f"),
        (FILE.replace("rate = \"20k\"", "rat = 5"), "line 2: rat: there is no such key"),
        (FILE.replace("name = \"bulk\"", "name = \"bulk"), "line 13: "),
        (FILE.replace("[[class]]", "[class]"), "line 12: "),
        (String::new(), "1 to 16 classes"),
        ("class = 5".to_owned(), "line 1: class: write it as [[class]]"),
    ];
    for (text, hint) in faults {
        let fault = Workload::of_file(&text, &none).expect_err(hint);
        assert!(fault.contains(hint) && !fault.contains('\n'), "{hint}: {fault}");
    }
}

#[test]
fn faulty_flags_are_said_with_their_key() {
    let faults: [(&[&str], &str); 10] = [
        (&["name="], "name: \"\""),
        (&["share=120%"], "share: "),
        (&["niceness=x"], "niceness: \"x\""),
        (&["size=4k"], "4KiB"),
        (&["lifetime=5"], "lifetime: not a time"),
        (&["lifetime=5ms,deadline=5ms"], "give one of them"),
        (&["size=5,size=6"], "size is there twice"),
        (&["share=50%", "share=40%"], "90.00 % together"),
        (&["name=a", "name=a"], "two classes have the name \"a\""),
        (&["immediate=perhaps"], "neither true nor false"),
    ];
    for (typed, hint) in faults {
        let fault = flags(typed).expect_err(hint);
        assert!(fault.contains(hint) && !fault.contains('\n'), "{hint}: {fault}");
    }
}

#[test]
fn variants_tell_the_library_less_and_keep_the_deadlines() {
    let typed = ["name=a,lifetime=2ms,share=50%", "name=b,niceness=3,deadline=1s"];
    let workload = flags(&typed).expect("two classes");
    let tells = |niceness, lifetime| {
        let told = workload.clone().told(Variant { niceness, lifetime });
        let class = |at: usize| (told.classes[at].tells_niceness, told.classes[at].tells_lifetime);
        assert!(told.classes.iter().all(|class| class.deadline.is_some()));
        [class(0), class(1)]
    };
    assert_eq!(tells(false, false), [(false, false); 2]);
    assert_eq!(tells(true, false), [(true, false); 2]);
    assert_eq!(tells(false, true), [(false, true), (false, false)]);
    assert_eq!(tells(true, true), [(true, true), (true, false)]);
}

#[test]
fn only_what_asks_for_something_is_watched() {
    let watched = |typed: &[&str]| flags(typed).expect("classes").is_watched();
    assert!(!Workload::plain(Sizes::fixed(5)).is_watched() && !watched(&["size=9,immediate"]));
    assert!(watched(&["niceness=1"]) && watched(&["deadline=1s"]));
    assert!(watched(&["name=a", "name=b"]));
    assert_eq!(Workload::plain(Sizes::fixed(5)).least_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is typed, there is an answer of one line.
    #[test]
    fn any_text_is_understood_or_refused_in_one_line(text in "[ -~]{0,60}") {
        if let Err(fault) = flags(&[&text]) {
            prop_assert!(!fault.contains('\n'), "{}", fault);
        }
        if let Err(fault) = Sizes::parse(&text, &none) {
            prop_assert!(!fault.contains('\n'), "{}", fault);
        }
        if let Err(fault) = Arrival::parse(&text) {
            prop_assert!(!fault.contains('\n'), "{}", fault);
        }
    }

    #[test]
    fn any_file_is_understood_or_refused_in_one_line(text in "[ -~\n]{0,200}") {
        for whole in [text.clone(), format!("{FILE}{text}")] {
            if let Err(fault) = Workload::of_file(&whole, &none) {
                prop_assert!(!fault.contains('\n'), "{}", fault);
            }
            if let Err(fault) = trace::parse(&whole, &Workload::plain(Sizes::fixed(5))) {
                prop_assert!(!fault.contains('\n'), "{}", fault);
            }
        }
    }
}

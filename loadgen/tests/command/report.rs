//! Saved results, shown again.

use super::process::errors;
use super::{code, run, scratch};

#[test]
fn saved_results_are_shown_side_by_side() {
    let (one, two, page) = (scratch("one.json"), scratch("two.json"), scratch("again.html"));
    let what = "-c 2 -d 300ms --warmup 50ms --class name=a,share=50% --class name=b";
    let line = format!("run -r 1k {what} --no-html --quiet --json {}", one.display());
    assert!([0, 3].contains(&code(&run(&line))));
    let line = "sweep --rates 200,400 -c 2 -d 300ms --warmup 50ms";
    assert!([0, 3].contains(&code(&run(&format!("{line} --json {}", two.display())))));
    let line = format!("report {} {} --html {}", one.display(), two.display(), page.display());
    let output = run(&line);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let saved = std::fs::read_to_string(&one).expect("it was saved");
    let saved: serde_json::Value = serde_json::from_str(&saved).expect("it is JSON");
    let scheduled = saved["ledger"]["measured"]["messages"]["scheduled"].as_u64();
    let row = text.lines().find(|line| line.contains("-one ")).expect("a row of the run");
    let shown = format!(" {} ", scheduled.expect("a count"));
    assert!(row.contains(&shown), "{shown} in {row}");
    for word in ["200/s", "400/s", "p99.9", "  a ", "  b ", "missed"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let html = std::fs::read_to_string(&page).expect("the page was written");
    assert_eq!(html.matches("class=\"line k2\"").count(), 4, "three runs, two charts, two sizes");
    for outside in ["http://", "https://", "<link", "<script"] {
        assert!(!html.contains(outside), "the page stands alone: {outside}");
    }
    std::fs::write(&two, "{\"schema\":\"postring-loadgen/2\"}").expect("scratch space");
    let output = run(&format!("report {} {}", one.display(), two.display()));
    assert_eq!(code(&output), 1);
    assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
    assert!(errors(&output).contains("two.json: it is not whole"), "{}", errors(&output));
    let output = run("report /no/such.json");
    assert_eq!((code(&output), errors(&output).lines().count()), (1, 1));
    for file in [one, two, page] {
        let _ = std::fs::remove_file(file);
    }
}

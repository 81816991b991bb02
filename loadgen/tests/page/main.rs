//! The HTML reports as a reader sees them: opened in headless Chromium, light and dark, on a desk
//! and on a phone. LOADGEN_SCREENSHOTS=DIR keeps a picture of each.
//!
//! A script is added to a copy of the page and tells what was drawn; the page itself has none.
#![cfg(unix)]

#[path = "../command/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

use process::{errors, finish, spawn, start};
use serde_json::Value;

/// Tells the frame around the page what was drawn on it.
const PROBE: &str = include_str!("probe.js");
/// Names under which Chromium is found.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// A desk's width and a phone's, in pixels.
const WIDTHS: [u32; 2] = [1280, 390];

fn browser() -> Option<&'static str> {
    let answers = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    BROWSERS.iter().find(answers).copied()
}

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("page-{}-{name}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("scratch space");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the browser with a profile of its own and no way out.
fn browse(browser: &str, folder: &Path, dark: bool, more: &[String]) -> String {
    let mut command = Command::new(browser);
    let scheme = if dark { 0 } else { 1 };
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg("--enable-logging=stderr")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(more);
    let output = finish(spawn(command));
    let said = errors(&output);
    assert!(output.status.success(), "{browser}: {said}");
    // A page without scripts has nothing to say; what is said is an error.
    let console: Vec<_> = said.lines().filter(|line| line.contains(":CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the browser drew of `page` at each of the widths.
fn drawn(browser: &str, folder: &Path, page: &str, dark: bool) -> Vec<Value> {
    let probed = page.replace("</body>", &format!("<script>{PROBE}</script></body>"));
    assert_ne!(probed, page, "the page has an end");
    std::fs::write(folder.join("probed.html"), probed).expect("scratch space");
    // A frame is as narrow as it should be; a window may not be.
    let frame = |width: u32| {
        format!("<iframe src=\"probed.html\" width=\"{width}\" height=\"900\"></iframe>")
    };
    let document = format!(
        "<!doctype html><body><pre></pre>{}<script>\
         addEventListener('message', e => document.querySelector('pre').append(e.data + '\\n'))\
         </script></body>",
        WIDTHS.map(frame).concat().replace("<iframe", "<iframe style=\"border:0\"")
    );
    let path = folder.join("frame.html");
    std::fs::write(&path, document).expect("scratch space");
    let more = [
        "--virtual-time-budget=5000".to_owned(),
        "--dump-dom".to_owned(),
        format!("file://{}", path.display()),
    ];
    let document = browse(browser, folder, dark, &more);
    let told = document.split("<pre>").nth(1).and_then(|rest| rest.split("</pre>").next());
    let told = told.expect("the frame has a place for it").replace("&lt;", "<");
    let told = told.replace("&gt;", ">").replace("&amp;", "&");
    let value = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    told.lines().map(value).collect()
}

fn keep_picture(browser: &str, folder: &Path, name: &str, width: u32, dark: bool) {
    let Some(kept) = std::env::var_os("LOADGEN_SCREENSHOTS") else { return };
    let scheme = if dark { "dark" } else { "light" };
    let picture = Path::new(&kept).join(format!("{name}-{width}-{scheme}.png"));
    let frame = format!(
        "<!doctype html><body style=\"margin:0\"><iframe src=\"page.html\" width=\"{width}\" \
         height=\"3200\" style=\"border:0\"></iframe></body>"
    );
    let path = folder.join("picture.html");
    std::fs::write(&path, frame).expect("scratch space");
    let more = [
        format!("--window-size={},3200", width.max(600)),
        format!("--screenshot={}", picture.display()),
        format!("file://{}", path.display()),
    ];
    let _ = browse(browser, folder, dark, &more);
}

/// What must hold of every page at every width in both schemes.
fn check(name: &str, width: u32, dark: bool, seen: &Value, lines: &[&str]) {
    let place = format!("{name} at {width}, dark: {dark}");
    let number = |name: &str| seen[name].as_f64().expect("a number");
    assert_eq!(seen["dark"], dark, "{place}");
    assert_eq!((number("width"), number("resources")), (f64::from(width), 0.0), "{place}");
    assert!(number("contentWidth") <= number("width"), "{place} is too wide: {seen}");
    assert!(number("contrast") >= 7.0, "{place}: text can hardly be read: {seen}");
    let charts = seen["charts"].as_array().expect("charts");
    let visible: Vec<_> = charts.iter().filter(|chart| chart["visible"] == true).collect();
    assert!(!visible.is_empty(), "{place} shows no chart");
    for chart in &visible {
        let outside = chart["outside"].as_array().expect("texts");
        assert!(outside.is_empty(), "{place}: text is cut off: {outside:?}");
        let drawn = chart["lines"].as_array().expect("lines");
        assert!(!drawn.is_empty(), "{place}: {chart}");
        for line in drawn {
            assert!(line["length"].as_f64() > Some(0.0), "{place}: nothing drawn: {line}");
            assert!(line["contrast"].as_f64() > Some(2.5), "{place}: cannot be seen: {line}");
        }
    }
    let classes = visible.iter().flat_map(|chart| chart["lines"].as_array().into_iter().flatten());
    let classes: Vec<_> = classes.filter_map(|line| line["class"].as_str()).collect();
    for line in lines {
        assert!(classes.contains(line), "{place}: no line {line} in {classes:?}");
    }
}

/// Makes a report with `line` and looks at it; `lines` are the curves that must be on it.
fn looks_right(name: &str, line: &str, lines: &[&str]) {
    let Some(browser) = browser() else {
        let _ = writeln!(stderr(), "SKIP: none of {BROWSERS:?} can be started");
        return;
    };
    let folder = Folder::new(name);
    let path = folder.0.join("page.html");
    let output = finish(start(&format!("{line} --html {}", path.display())));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{line}: {}", errors(&output));
    let page = std::fs::read_to_string(&path).expect("the report was written");
    for dark in [false, true] {
        let mut seen = drawn(browser, &folder.0, &page, dark);
        seen.sort_by_key(|seen| std::cmp::Reverse(seen["width"].as_u64()));
        assert_eq!(seen.len(), WIDTHS.len(), "{name}, dark: {dark}");
        for (width, seen) in WIDTHS.into_iter().zip(&seen) {
            keep_picture(browser, &folder.0, name, width, dark);
            check(name, width, dark, seen, lines);
        }
    }
}

#[test]
fn the_report_of_a_run() {
    let line = "run -r 2k -c 4 -d 1s --warmup 100ms --class name=urgent,share=10%,deadline=50ms \
                --class name=bulk,size=uniform:100:4KiB,niceness=2";
    looks_right("run", line, &["response", "service", "median", "tail", "lag", "k0", "k1"]);
}

#[test]
fn the_report_of_a_scenario() {
    let line = "deadline --on loopback --loads 80%,120% --link 20M -d 700ms";
    looks_right("scenario", line, &["k0", "k1"]);
}

#[test]
fn the_report_of_slowdowns() {
    let line = "homa --on loopback --sizes uniform:64:4KiB --loads 80% --link 50M -d 400ms";
    looks_right("slowdown", line, &["k2", "k3"]);
}

#[test]
fn the_report_of_blocks() {
    let line = "blocks --on loopback --loads 80% --link 20M -d 700ms";
    looks_right("blocks", line, &["k0", "k1"]);
}

#[test]
fn the_report_of_a_comparison() {
    let line = "compare -r 2k -c 2 -d 300ms --warmup 50ms --pairs 3 \
                --class name=urgent,share=20%,deadline=50ms --class name=bulk";
    looks_right("comparison", line, &["k0", "k1", "median"]);
}

#[test]
fn the_report_of_a_sweep() {
    let line = "sweep --rates 1k,5k,20k -c 4 -d 300ms --warmup 50ms";
    looks_right("sweep", line, &["median", "tail", "lag"]);
}

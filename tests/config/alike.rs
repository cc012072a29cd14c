//! Files that nobody recorded are judged as the original judges them: those of the wild, and the
//! recorded ones with their words mixed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use shardtrack_tests::need_root;
use shardtrack_tests::netns::Netns;
use shardtrack_tests::peer::Make;
use shardtrack_tests::random::Random;

use crate::life::{live, machine, vectors};

/// Files that are made of the recorded ones.
const MIXED: u32 = 400;
/// What stands in files of the wild besides.
const STRANGE: [&str; 26] = [
    "\"FTFW\"",
    "'on'",
    "=",
    ";",
    ",",
    "//",
    "/*",
    "on;",
    "{}",
    "}{",
    "0x10",
    "-1",
    "+0",
    "1e3",
    "99999999999",
    "eth0:1",
    "10.0.0.1/33",
    "10.0.0.1/4294967300",
    "010.0.0.1",
    "fe80::1%eth0",
    "::ffff:10.0.0.1",
    "IPv4_destination_address",
    "Lockfile",
    "true",
    "~/log",
    "log",
];
/// What parts words.
const BLANKS: [&str; 6] = [" ", "\t", "\n", "\n\t", "\r\n", " # {a} \"comment\"\n"];

/// What a client says of a file before it finds that nobody answers.
fn judged(ns: &Netns, make: Make, file: &Path) -> Vec<String> {
    let mut command = ns.command(make.program("conntrackd"));
    let output = command.arg("-C").arg(file).arg("-s").stdin(Stdio::null()).output();
    let stderr = output.expect("it can be started").stderr;
    let mut lines: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&stderr).lines() {
        let text = match (line.starts_with('['), line.find(") [")) {
            (true, Some(end)) => &line[end + 2..],
            _ => line,
        };
        // What is to be done about it is a second line of ours.
        let is_hint = make == Make::Ours
            && lines.last().is_some_and(|line| line.ends_with("': syntax error"));
        if !is_hint {
            lines.push(text.to_owned());
        }
    }
    lines
}

fn files(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(vectors().join("config").join(folder)).expect("a folder");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

/// The words of a file; nothing if it holds octets of which the original thinks otherwise.
fn words(file: &Path) -> Option<Vec<String>> {
    let text = String::from_utf8(fs::read(file).expect("a file")).ok()?;
    if !text.is_ascii() || text.contains('\0') {
        return None;
    }
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    Some(lines.flat_map(str::split_whitespace).map(str::to_owned).collect())
}

/// One of the sound files, with a few words taken out, put in, swapped or in small letters, or with
/// a file behind it.
fn mixed(random: &mut Random, sound: &[Vec<String>], files: &[Vec<String>]) -> String {
    let mut words = sound[random.below(sound.len())].clone();
    for _ in 0..random.below(3) {
        let at = random.below(words.len());
        match random.below(6) {
            0 => words.insert(at, STRANGE[random.below(STRANGE.len())].to_owned()),
            1 if !words.is_empty() => drop(words.remove(at)),
            2 if !words.is_empty() => words[at] = words[at].to_lowercase(),
            3 if at + 1 < words.len() => words.swap(at, at + 1),
            4 => {
                let other = &files[random.below(files.len())];
                if let Some(word) = other.get(random.below(other.len())) {
                    words.insert(at, word.clone());
                }
            }
            _ => words.extend_from_slice(&files[random.below(files.len())]),
        }
    }
    let mut text = String::new();
    for word in words {
        text += &word;
        text += BLANKS[random.below(BLANKS.len())];
    }
    // Without a line feed at its end a comment is an error for the original.
    text + "\n"
}

#[test]
fn files_of_mixed_words_are_judged_as_by_the_original() {
    need_root!();
    let ns = machine();
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    let file = folder.path().join("conf");
    let of = |folders: &[&str]| -> Vec<_> {
        let files = folders.iter().flat_map(|folder| files(folder));
        files.filter_map(|file| words(&file)).collect()
    };
    let (sound, all) = (of(&["valid", "wild"]), of(&["valid", "wild", "invalid"]));
    let mut random = Random::new(4);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..MIXED {
        let text = mixed(&mut random, &sound, &all);
        fs::write(&file, &text).expect("own folder");
        let ours = judged(&ns, Make::Ours, &file);
        // The release that is installed takes a fifth link for no link.
        if ours.iter().any(|line| line.contains("too many dedicated links")) {
            continue;
        }
        assert_eq!(ours, judged(&ns, Make::Original, &file), "ours, the original; {text}");
        if ours.iter().any(|line| line.contains("can't connect")) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(accepted > 60 && refused > 60, "{accepted} accepted, {refused} refused");
}

#[test]
fn files_of_the_wild_start() {
    need_root!();
    let ns = Netns::new("wild");
    for (device, address) in
        [("eth2", "192.168.100.1/24"), ("eth3", "192.168.101.1/24"), ("bond0.100", "10.0.0.1/24")]
    {
        ns.add_device(device);
        ns.ip(&format!("addr add {address} dev {device}"));
    }
    let mut all = files("wild");
    // Those that Debian ships, if they are installed.
    for mode in ["sync/ftfw", "sync/notrack", "sync/alarm", "stats"] {
        let example = Path::new("/usr/share/doc/conntrackd/examples").join(mode);
        all.extend(Some(example.join("conntrackd.conf")).filter(|file| file.exists()));
    }
    ns.ip("addr add 192.168.100.100/24 dev eth2");
    for file in all {
        let ours = judged(&ns, Make::Ours, &file);
        assert_eq!(ours, judged(&ns, Make::Original, &file), "{}", file.display());
        let life = live(&ns, &file);
        assert!(life.is_whole(), "{}: {:?} {:?}", file.display(), life.out, life.err);
        // What a client warns of the daemon warns of, and of nothing else.
        let warnings: Vec<_> = ours.iter().filter(|line| !line.contains("can't connect")).collect();
        assert_eq!(life.told(), warnings, "{}", file.display());
    }
}

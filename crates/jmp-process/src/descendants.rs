//! Which processes live below this one.

use rustix::process::Pid;

/// Every process whose chain of parents leads to `ancestor`, zombies left out.
///
/// A snapshot: a process that is forking right now may be missing, so whoever wants them all
/// gone asks again until `wait` says that there are no children.
#[cfg(target_os = "linux")]
pub(crate) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let processes: Vec<Process> = entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
            parse(pid, &stat)
        })
        .collect();
    below(ancestor.as_raw_nonzero().get(), &processes)
        .into_iter()
        .filter_map(Pid::from_raw)
        .collect()
}

/// Without `/proc` nobody is known; the process group is all that can be ended.
#[cfg(not(target_os = "linux"))]
pub(crate) fn descendants(_ancestor: Pid) -> Vec<Pid> {
    Vec::new()
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
struct Process {
    pid: i32,
    parent: i32,
    zombie: bool,
}

/// Reads `PID (COMM) STATE PPID …`; COMM may itself hold blanks and parentheses.
#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[end_of_name + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    Some(Process {
        pid,
        parent,
        zombie,
    })
}

#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
fn below(ancestor: i32, processes: &[Process]) -> Vec<i32> {
    let mut found: Vec<&Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for process in processes {
            if process.parent == parent && !found.iter().any(|known| known.pid == process.pid) {
                found.push(process);
                parents.push(process.pid);
            }
        }
    }
    found
        .into_iter()
        .filter(|process| !process.zombie)
        .map(|process| process.pid)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_with_parentheses() {
        let process = parse(5, b"5 (a) b (c)) S 4 5 5 0 -1").unwrap();
        assert_eq!((process.parent, process.zombie), (4, false));
        assert!(parse(6, b"6 (z) Z 5 0").unwrap().zombie);
        assert!(parse(7, b"nothing").is_none());
    }

    #[test]
    fn finds_every_generation() {
        let of = |pid, parent| Process {
            pid,
            parent,
            zombie: pid == 12,
        };
        let all = [of(30, 12), of(12, 10), of(11, 10), of(2, 1), of(10, 1)];
        let mut found = below(10, &all);
        found.sort_unstable();
        assert_eq!(found, [11, 30]);
    }
}

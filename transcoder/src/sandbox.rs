//! Takes from the worker everything that turning pictures into other pictures does not need: files, sockets,
//! programs, other processes, and memory beyond a bound (SECURITY S10).

use std::collections::BTreeMap;
use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
};

/// The sandbox could not be closed; the worker must not read media.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A limit, or a property of the process.
    #[error("{0}: {1}")]
    Kernel(&'static str, nix::Error),
    #[error("open files: {0}")]
    Files(io::Error),
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// How much of the sandbox this kernel provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Fully,
    /// The kernel has no Landlock, or an old one; seccomp stands alone for what it lacks.
    WithoutLandlock,
}

/// Address space beside data: shared libraries, stacks, and what heaps reserve without using it.
const RESERVED: u64 = 512 << 20;

/// Closes the sandbox around every thread of this process, for ever. `memory_max` bounds what it allocates, in bytes.
pub(crate) fn enter(memory_max: u64) -> Result<Closed, Error> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| Error::Kernel("dumpable", error))?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| Error::Kernel("no_new_privs", error))?;
    let limit = |name, resource, value| {
        setrlimit(resource, value, value).map_err(|error| Error::Kernel(name, error))
    };
    limit("core size", Resource::RLIMIT_CORE, 0)?;
    limit("data", Resource::RLIMIT_DATA, memory_max)?;
    limit(
        "address space",
        Resource::RLIMIT_AS,
        memory_max.saturating_add(RESERVED),
    )?;
    let landlocked = landlock()?;
    limit("open files", Resource::RLIMIT_NOFILE, 4)?;
    for filter in filters()? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(if landlocked {
        Closed::Fully
    } else {
        Closed::WithoutLandlock
    })
}

/// Closes what the parent left open beside standard input, output and error.
pub(crate) fn close_files() -> Result<(), Error> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map_err(Error::Files)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&file| file > 2)
        .collect();
    for file in open {
        // One of them was the listing itself and is closed already.
        let _ = nix::unistd::close(file);
    }
    Ok(())
}

fn landlock() -> Result<bool, Error> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset == RulesetStatus::FullyEnforced)
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// System calls that take nothing from outside: memory, threads, time, and the files that are open already.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_ppoll,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_membarrier,
];

/// The filters, in the order of their installation: what is not allowed is refused with EPERM; `clone3`, whose
/// arguments a filter cannot see, does not exist, so that the C library falls back to `clone`.
fn filters() -> Result<[BpfProgram; 2], Error> {
    let refuse = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let hidden = SeccompFilter::new(hidden, SeccompAction::Allow, refuse(libc::ENOSYS), ARCH)?;

    let when = |index, is, value: u64| Condition::new(index, Width::Qword, is, value);
    let rule = |conditions: Vec<Condition>| SeccompRule::new(conditions);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let bits = |value: i32| u64::from(value.unsigned_abs());
    // Threads, not processes.
    let thread = bits(libc::CLONE_THREAD);
    rules.insert(
        libc::SYS_clone,
        vec![rule(vec![when(0, Is::MaskedEq(thread), thread)?])?],
    );
    // Memory that is not code.
    let code = bits(libc::PROT_EXEC);
    rules.insert(
        libc::SYS_mmap,
        vec![rule(vec![when(2, Is::MaskedEq(code), 0)?])?],
    );
    rules.insert(
        libc::SYS_mprotect,
        vec![rule(vec![when(2, Is::MaskedEq(code), 0)?])?],
    );
    // Signals to itself, which is how `abort` ends.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(vec![when(0, Is::Eq, own)?])?]);
    // Names of threads.
    rules.insert(
        libc::SYS_prctl,
        vec![rule(vec![when(0, Is::Eq, bits(libc::PR_SET_NAME))?])?],
    );
    // Reading limits, not setting them: the C library asks for the stack's.
    rules.insert(libc::SYS_prlimit64, vec![rule(vec![when(2, Is::Eq, 0)?])?]);
    let allowed = SeccompFilter::new(rules, refuse(libc::EPERM), SeccompAction::Allow, ARCH)?;
    // The last one installed may not keep the others from being installed: `seccomp` itself is refused by it.
    Ok([hidden.try_into()?, allowed.try_into()?])
}

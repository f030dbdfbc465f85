//! Which addresses are refused: a table of the ways around such checks that are known, and of what must still work.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use facestream_core::SourceUrl;
use facestream_ingest::{AddressConfig, AddressDenied, AddressPolicy, PinnedTarget, PolicyError, Resolver};
use futures::future::BoxFuture;

/// Names and what they resolve to: an answer a time, the last for ever.
#[derive(Debug, Default)]
struct Names(Vec<(&'static str, Vec<&'static [&'static str]>, AtomicUsize)>);

impl Names {
    fn new(names: &[(&'static str, &[&'static [&'static str]])]) -> Arc<Self> {
        Arc::new(Self(names.iter().map(|(n, a)| (*n, a.to_vec(), AtomicUsize::new(0))).collect()))
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = self.0.iter().find(|(name, ..)| *name == host);
            let (_, answers, asked) = found.ok_or(io::ErrorKind::NotFound)?;
            let turn = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            Ok(answers[turn].iter().map(|a| a.parse().unwrap()).collect())
        })
    }
}

fn config(toml: &str) -> AddressConfig {
    let config: AddressConfig = toml::from_str(toml).unwrap();
    assert_eq!(config.validate(), Vec::<String>::new());
    config
}

async fn check(policy: &AddressPolicy, url: &str) -> Result<PinnedTarget, PolicyError> {
    let source = SourceUrl::parse(url).unwrap();
    let result = policy.check(&source).await;
    if policy.precheck(&source).is_err() {
        assert!(result.is_err(), "{url}: the quick check may refuse nothing that the full one allows");
    }
    result
}

fn addresses(target: &PinnedTarget) -> Vec<String> {
    target.addresses().iter().map(SocketAddr::to_string).collect()
}

#[tokio::test]
async fn ways_around_the_default_policy_are_closed() {
    let names = Names::new(&[
        ("localhost", &[&["127.0.0.1", "::1"]]),
        ("cam.localhost", &[&["127.0.0.1"]]),
        ("loopback.evil", &[&["127.0.0.1"]]),
        ("loopback6.evil", &[&["::1"]]),
        ("mapped.evil", &[&["::ffff:127.0.0.1"]]),
        ("metadata.evil", &[&["169.254.169.254"]]),
        ("metadata.mapped.evil", &[&["::ffff:169.254.169.254"]]),
        ("zero.evil", &[&["0.0.0.0"]]),
        ("zero6.evil", &[&["::"]]),
        ("nat64.evil", &[&["64:ff9b::7f00:1"]]),
        ("empty.evil", &[&[]]),
    ]);
    let policy = AddressPolicy::with_resolver(AddressConfig::default(), names);
    let vectors = [
        // This machine, plainly and in other notations that getaddrinfo or inet_aton would take.
        "rtsp://127.0.0.1/",
        "rtsp://127.0.0.1:8554/",
        "rtsp://127.1.2.3/",
        "rtsp://127.0.0.1./",
        "rtsp://127.1/",
        "rtsp://127.0.1/",
        "rtsp://0177.0.0.1/",
        "rtsp://0x7f.0.0.1/",
        "rtsp://0x7F000001/",
        "rtsp://0X7f.1/",
        "rtsp://2130706433/",
        "rtsp://017700000001/",
        "rtsp://127.0.0.0x1/",
        "rtsp://127.000.000.001/",
        "rtsp://%31%32%37.0.0.1/",
        "rtsp://１２７.0.0.1/",
        "rtsp://127。0。0。1/",
        "rtsp://ⓛocalhost/",
        "rtsp://localhost/",
        "rtsp://LOCALHOST./",
        "rtsp://cam.localhost/",
        // The unspecified address, which reaches this machine too.
        "rtsp://0.0.0.0/",
        "rtsp://0.0.0.0:554/",
        "rtsp://0.1.2.3/",
        "rtsp://0/",
        "rtsp://00000000/",
        "rtsp://[::]/",
        // IPv6 forms of the above.
        "rtsp://[::1]/",
        "rtsp://[0:0:0:0:0:0:0:1]/",
        "rtsp://[::ffff:127.0.0.1]/",
        "rtsp://[::ffff:7f00:1]/",
        "rtsp://[::127.0.0.1]/",
        "rtsp://[::ffff:0.0.0.0]/",
        "rtsp://[::ffff:0:127.0.0.1]/",
        "rtsp://[64:ff9b::127.0.0.1]/",
        "rtsp://[64:ff9b:1::7f00:1]/",
        "rtsp://[2002:7f00:1::]/",
        "rtsp://[2001:0:0:0:0:0:80ff:fffe]/",
        "rtsp://[2001:db8::5efe:7f00:1]/",
        // Link-local, where clouds serve credentials, and their other places.
        "rtsp://169.254.169.254/latest/meta-data/",
        "rtsp://169.254.0.1/",
        "rtsp://[::ffff:169.254.169.254]/",
        "rtsp://[64:ff9b::a9fe:a9fe]/",
        "rtsp://[2002:a9fe:a9fe::1]/",
        "rtsp://2852039166/",
        "rtsp://0xa9.0xfe.0xa9.0xfe/",
        "rtsp://0251.0376.0251.0376/",
        "rtsp://[fe80::1]/",
        "rtsp://[febf::1]/",
        "rtsp://[fec0::1]/",
        "rtsp://[fd00:ec2::254]/",
        "rtsp://100.100.100.200/",
        "rtsp://192.0.0.192/",
        "rtsp://168.63.129.16/",
        // Where no camera is.
        "rtsp://224.0.0.1/",
        "rtsp://239.255.255.250/",
        "rtsp://255.255.255.255/",
        "rtsp://240.0.0.1/",
        "rtsp://[ff02::1]/",
        "rtsp://[::ffff:224.0.0.1]/",
        // User info and separators that programs read differently.
        "rtsp://10.0.0.5@127.0.0.1/",
        "rtsp://10.0.0.5:554@127.0.0.1:554/",
        "rtsp://10.0.0.5%40127.0.0.1/",
        "rtsp://10.0.0.5\\@127.0.0.1/",
        "rtsp://user:10.0.0.5@[::1]/",
        "rtsp://a@b@127.0.0.1/",
        "rtsp://10.0.0.5%00.evil/",
        "rtsp://10.0.0.5%2f@169.254.169.254/",
        // Names.
        "rtsp://loopback.evil/",
        "rtsp://loopback6.evil/",
        "rtsp://mapped.evil/",
        "rtsp://metadata.evil/",
        "rtsp://metadata.mapped.evil/",
        "rtsp://zero.evil/",
        "rtsp://zero6.evil/",
        "rtsp://nat64.evil/",
        "rtsp://empty.evil/",
        "rtsp://nobody.evil/",
        "rtsp://cam..evil/",
        "rtsp://.evil/",
        "rtsp://evil.123/",
        // Schemes and ports.
        "rtsps://10.0.0.5/",
        "rtspu://10.0.0.5/",
        "http://10.0.0.5/",
        "https://10.0.0.5/",
        "ftp://10.0.0.5/",
        "gopher://10.0.0.5:25/",
        "rtsp://10.0.0.5:0/",
    ];
    let mut judged = 0;
    for url in vectors {
        // What is no URL at all never reaches the policy.
        let Ok(source) = SourceUrl::parse(url) else { continue };
        judged += 1;
        let result = policy.check(&source).await;
        assert!(result.is_err(), "{url}: {result:?}");
    }
    assert!(judged >= 70, "{judged} of the table reached the policy");
}

#[tokio::test]
async fn cameras_are_reached_by_default() {
    let names = Names::new(&[
        ("camera-3.example.org", &[&["192.168.1.20"]]),
        ("dual", &[&["2001:db8::7", "10.1.2.3"]]),
        // A name of the local network that mDNS also gives a link-local address.
        ("porch.local", &[&["fe80::1", "192.168.1.21"]]),
        ("hik_vision-1", &[&["172.16.0.9"]]),
    ]);
    let policy = AddressPolicy::with_resolver(AddressConfig::default(), names);
    for (url, expected) in [
        ("rtsp://10.0.0.5/live", &["10.0.0.5:554"][..]),
        ("rtsp://user:pass@192.168.1.20:8554/Streaming/Channels/101?transportmode=unicast", &["192.168.1.20:8554"]),
        ("RTSP://172.16.3.4/", &["172.16.3.4:554"]),
        ("rtsp://10.0.0.5./", &["10.0.0.5:554"]),
        ("rtsp://203.0.113.7/", &["203.0.113.7:554"]),
        ("rtsp://[2001:db8::5]:8554/", &["[2001:db8::5]:8554"]),
        ("rtsp://[fd12:3456::5]/", &["[fd12:3456::5]:554"]),
        ("rtsp://[::ffff:10.0.0.5]/", &["10.0.0.5:554"]),
        ("rtsp://camera-3.example.org/", &["192.168.1.20:554"]),
        ("rtsp://Camera-3.Example.ORG./", &["192.168.1.20:554"]),
        ("rtsp://dual/", &["[2001:db8::7]:554", "10.1.2.3:554"]),
        ("rtsp://porch.local/", &["192.168.1.21:554"]),
        ("rtsp://hik_vision-1/", &["172.16.0.9:554"]),
    ] {
        let target = check(&policy, url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
        assert_eq!(addresses(&target), expected, "{url}");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_changes_nothing() {
    let names = Names::new(&[
        ("rebind.evil", &[&["203.0.113.7"], &["127.0.0.1"]]),
        ("both.evil", &[&["127.0.0.1", "203.0.113.7", "169.254.169.254"]]),
    ]);
    let policy = AddressPolicy::with_resolver(AddressConfig::default(), names);
    let target = check(&policy, "rtsp://rebind.evil/live?x=1").await.unwrap();
    // The connection goes to the checked address: what is connected to holds no name any more.
    let url = target.url_at(target.address(1));
    assert_eq!(url.as_str(), "rtsp://203.0.113.7:554/live?x=1");
    // The next check, for the next connect, sees the change.
    let error = check(&policy, "rtsp://rebind.evil/live?x=1").await.unwrap_err();
    assert!(matches!(error, PolicyError::Address { reason: AddressDenied::Loopback, .. }), "{error}");
    assert!(!error.is_permanent(), "a name may be mended");
    let target = check(&policy, "rtsp://both.evil/").await.unwrap();
    assert_eq!(addresses(&target), ["203.0.113.7:554"]);
}

#[tokio::test]
async fn attempts_take_turns_among_addresses() {
    let names = Names::new(&[("dual", &[&["2001:db8::7", "10.1.2.3"]])]);
    let policy = AddressPolicy::with_resolver(AddressConfig::default(), names);
    let target = check(&policy, "rtsp://dual/").await.unwrap();
    let turns: Vec<bool> = (1..=4).map(|attempt| target.address(attempt).is_ipv6()).collect();
    assert_eq!(turns, [true, false, true, false]);
    assert_eq!(target.url_at(target.address(1)).as_str(), "rtsp://[2001:db8::7]:554/");
}

#[tokio::test]
async fn lists_narrow_what_is_allowed() {
    let names = || {
        Names::new(&[
            ("cam1.site.example", &[&["10.20.0.5"]]),
            ("moved.site.example", &[&["192.0.2.9"]]),
            ("site.example", &[&["10.20.0.6"]]),
            ("evilsite.example", &[&["10.20.0.7"]]),
            ("v6.site.example", &[&["2001:db8:1::5", "10.20.0.8"]]),
        ])
    };
    let lists = config(
        "allow_hosts = ['*.site.example', '10.99.0.1', '[2001:db8:9::1]']\n\
         allow_cidrs = ['10.20.0.0/16', '10.99.0.0/24', '2001:db8:9::/64']\nallow_ports = [554, 8554]",
    );
    let policy = AddressPolicy::with_resolver(lists, names());
    for (url, allowed) in [
        ("rtsp://cam1.site.example/", true),
        ("rtsp://CAM1.site.example.:8554/", true),
        ("rtsp://cam1.site.example:80/", false),
        // The name is listed, its address is not: whoever runs the name server moves no camera.
        ("rtsp://moved.site.example/", false),
        ("rtsp://site.example/", false),
        ("rtsp://evilsite.example/", false),
        ("rtsp://v6.site.example/", true),
        ("rtsp://10.99.0.1/", true),
        // Not listed, but covered by a network.
        ("rtsp://10.20.0.77/", true),
        ("rtsp://[::ffff:10.20.0.77]/", true),
        ("rtsp://10.21.0.77/", false),
        ("rtsp://[2001:db8:9::1]/", true),
        ("rtsp://[2001:db8:8::1]/", false),
        ("rtsp://127.0.0.1/", false),
    ] {
        let result = check(&policy, url).await;
        assert_eq!(result.is_ok(), allowed, "{url}: {result:?}");
        if url.contains("v6.") {
            assert_eq!(addresses(&result.unwrap()), ["10.20.0.8:554"], "only the address in the list");
        }
    }
}

#[tokio::test]
async fn loopback_can_be_allowed_but_never_metadata() {
    let names = || Names::new(&[("localhost", &[&["::1", "127.0.0.1"]])]);
    let open = AddressPolicy::with_resolver(config("allow_loopback = true"), names());
    let by_network = AddressPolicy::with_resolver(config("allow_cidrs = ['127.0.0.0/8', '::1/128']"), names());
    let beside = AddressPolicy::with_resolver(config("allow_loopback = true\nallow_cidrs = ['10.0.0.0/8']"), names());
    for policy in [&open, &by_network, &beside] {
        for url in ["rtsp://127.0.0.1:8554/cam1", "rtsp://[::1]:8554/cam1", "rtsp://localhost:8554/cam1"] {
            check(policy, url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
        }
    }
    let all = "allow_loopback = true\nallow_cidrs = ['0.0.0.0/0', '::/0']\n\
               allow_hosts = ['169.254.169.254', '0.0.0.0', '*.example']";
    let everything = AddressPolicy::with_resolver(config(all), names());
    for url in [
        "rtsp://169.254.169.254/",
        "rtsp://[::ffff:169.254.169.254]/",
        "rtsp://[fd00:ec2::254]/",
        "rtsp://0.0.0.0/",
        "rtsp://[::]/",
        "rtsp://224.0.0.1/",
        "rtsp://[fe80::1]/",
    ] {
        let error = check(&everything, url).await.unwrap_err();
        assert!(error.is_permanent(), "{url}: {error}");
    }
}

#[tokio::test]
async fn refusals_say_what_is_allowed_and_no_secret() {
    let names = Names::new(&[("inside.evil", &[&["127.0.0.1"]])]);
    let policy = AddressPolicy::with_resolver(config("allow_ports = [554]"), names);
    for (url, words) in [
        ("rtsps://admin:canary@10.0.0.5/canary?p=canary", &["rtsps", "not supported", "use rtsp"][..]),
        ("http://admin:canary@10.0.0.5/canary?p=canary", &["`http`", "allowed: rtsp"]),
        ("rtsp://admin:canary@127.0.0.1/canary?p=canary", &["127.0.0.1", "addresses.allow_loopback"]),
        ("rtsp://admin:canary@inside.evil/canary?p=canary", &["inside.evil", "127.0.0.1", "allow_loopback"]),
        ("rtsp://admin:canary@10.0.0.5:25/canary?p=canary", &["25", "addresses.allow_ports"]),
        ("rtsp://admin:canary@0x7f.1/canary?p=canary", &["0x7f.1", "usual form"]),
        ("rtsp://admin:canary@nobody.evil/canary?p=canary", &["nobody.evil", "DNS"]),
        ("rtsp://admin:canary@169.254.169.254/canary?p=canary", &["169.254.169.254", "never allowed"]),
    ] {
        let source = SourceUrl::parse(url).unwrap();
        let error = policy.check(&source).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
    let target =
        policy.check(&SourceUrl::parse("rtsp://admin:canary@10.0.0.5/canary?p=canary").unwrap()).await.unwrap();
    assert!(!format!("{target:?}").contains("canary"));
}

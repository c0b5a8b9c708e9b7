//! The names of one registry: Amazon's have several, and a login for one of them is valid for all
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-requests.html>).

use registry::Server;

/// ECR Public by IPv4 only, and dual-stack.
pub const PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// The part between account and region in the name of an account's registry, and whether that name is dual-stack.
const PRIVATE: [(&str, bool); 4] =
    [("dkr.ecr", false), ("dkr.ecr-fips", false), ("dkr-ecr", true), ("dkr-ecr-fips", true)];

/// The end of a partition's names, IPv4 only and dual-stack
/// (<https://github.com/aws/aws-sdk-rust/blob/main/sdk/aws-config/src/endpoint_lib/partition.rs>).
const ENDS: [(&str, &str); 7] = [
    ("amazonaws.com", "on.aws"),
    ("amazonaws.com.cn", "on.amazonwebservices.com.cn"),
    ("amazonaws.eu", "on.amazonwebservices.eu"),
    ("c2s.ic.gov", "on.aws.ic.gov"),
    ("sc2s.sgov.gov", "on.aws.scloud"),
    ("csp.hci.ic.gov", "on.aws.hci.ic.gov"),
    ("cloud.adc-e.uk", "on.cloud-aws.adc-e.uk"),
];

/// The other names of the registry at `server`; empty if it is not Amazon's, or not reached by https at the default port.
pub(super) fn other_names(server: &Server) -> Vec<Server> {
    let host = server.to_string();
    let by_https = |name: &str| Server::of(&format!("https://{name}"));
    // With http or another port it is another server, whatever its name.
    if by_https(&host).as_ref() != Some(server) {
        return Vec::new();
    }
    others(&host).iter().filter_map(|name| by_https(name)).collect()
}

/// The other names of the registry `host`.
pub fn others(host: &str) -> Vec<String> {
    if PUBLIC.contains(&host) {
        return PUBLIC.iter().filter(|name| **name != host).map(|name| (*name).to_owned()).collect();
    }
    let mut found = Vec::new();
    for (service, dual) in PRIVATE {
        for ends in ENDS {
            let end = if dual { ends.1 } else { ends.0 };
            let Some((account, region)) = split(host, service, end) else { continue };
            for (service, dual) in PRIVATE {
                let end = if dual { ends.1 } else { ends.0 };
                found.push(format!("{account}.{service}.{region}.{end}"));
            }
            found.retain(|name| name != host);
            return found;
        }
    }
    found
}

/// Account and region of `123456789012.dkr.ecr.eu-west-1.amazonaws.com`.
fn split<'a>(host: &'a str, service: &str, end: &str) -> Option<(&'a str, &'a str)> {
    let (account, rest) = host.split_once('.')?;
    let region = rest.strip_prefix(service)?.strip_prefix('.')?.strip_suffix(end)?.strip_suffix('.')?;
    let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (is_account && !region.is_empty() && !region.contains('.')).then_some((account, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_these_names_and_no_others() {
        assert_eq!(others("public.ecr.aws"), ["ecr-public.aws.com"]);
        assert_eq!(others("ecr-public.aws.com"), ["public.ecr.aws"]);
        let all = |ends: (&str, &str), region: &str| {
            PRIVATE.map(|(service, dual)| {
                format!("123456789012.{service}.{region}.{}", if dual { ends.1 } else { ends.0 })
            })
        };
        let regions = ["eu-west-1", "cn-north-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1"];
        let more = ["us-isof-east-1", "eu-isoe-west-1"];
        let everywhere = ENDS.into_iter().zip(regions.into_iter().chain(more));
        for (ends, region) in everywhere.chain([(ENDS[0], "us-gov-west-1")]) {
            for name in all(ends, region) {
                let mut with = others(&name);
                assert_eq!(with.len(), 3, "{name}");
                with.push(name);
                with.sort();
                let mut wanted = all(ends, region);
                wanted.sort();
                assert_eq!(with, wanted);
            }
        }
        for other in [
            "docker.io",
            "ecr.aws",
            "public.ecr.aws.example.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com",
            "123456789012.dkr-ecr.eu-west-1.amazonaws.com",
            "12345.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.a.b.amazonaws.com",
        ] {
            assert!(others(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn another_port_or_plain_http_is_another_registry() {
        let names = |url: &str| other_names(&Server::of(url).unwrap()).len();
        assert_eq!(names("https://123456789012.dkr-ecr.eu-west-1.on.aws"), 3);
        assert_eq!(names("https://public.ecr.aws"), 1);
        assert_eq!(names("https://public.ecr.aws:8443"), 0);
        assert_eq!(names("http://public.ecr.aws"), 0);
    }
}

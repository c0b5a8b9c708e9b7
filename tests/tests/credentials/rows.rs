//! The routes to a registry, and which server gets which login on each.

/// One route to a registry. `LOOP` in an address is a port of this machine.
#[derive(Clone, Copy)]
pub struct Row {
    pub source: &'static str,
    /// Its address by `[upstream]`.
    pub upstream: Option<&'static str>,
    /// The token service; without one, user name and password are required at each request.
    pub realm: Option<&'static str>,
    /// The redirect of the token service.
    pub token_redirect: Option<&'static str>,
    /// The redirect of the registry after the login.
    pub redirect: Option<&'static str>,
    /// Keys of docker's config.json, after their [kind](super::kinds) if that is not a password; the user's name is the key's
    /// number.
    pub logins: &'static [&'static str],
    /// The server and the user that it got, by password, by a form or by a token for that user.
    pub sent: &'static [&'static str],
}

const HUB: &str = "https://index.docker.io/v1/";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

pub const PLAIN: Row = Row {
    source: "docker.io/library/x:1",
    upstream: None,
    realm: None,
    token_redirect: None,
    redirect: None,
    logins: &[],
    sent: &[],
};

pub const ROWS: &[Row] = &[
    // Docker Hub itself, by password and by token.
    Row { logins: &[HUB], sent: &["https://registry-1.docker.io password 0"], ..PLAIN },
    Row {
        realm: Some("https://auth.docker.io/token"),
        logins: &[HUB],
        sent: &["https://auth.docker.io password 0", "https://registry-1.docker.io token 0"],
        ..PLAIN
    },
    Row { logins: &["mirror.corp"], ..PLAIN },
    // A mirror: its own login, or none.
    Row {
        upstream: Some("https://mirror.corp/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row { upstream: Some("https://mirror.corp/hub"), logins: &[HUB], ..PLAIN },
    Row {
        upstream: Some("http://mirror.corp/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["http://mirror.corp password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://mirror.corp/hub"), logins: &[HUB], ..PLAIN },
    Row { upstream: Some("http://mirror.corp/hub"), logins: &[HUB, "https://mirror.corp"], ..PLAIN },
    Row { upstream: Some("http://mirror.corp:81/hub"), logins: &[HUB, "mirror.corp"], ..PLAIN },
    Row {
        upstream: Some("http://mirror.corp:81/hub"),
        logins: &["mirror.corp", "mirror.corp:81"],
        sent: &["http://mirror.corp:81 password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://registry-1.docker.io"), logins: &[HUB], ..PLAIN },
    // A mirror on this machine is reached by plain http and read anonymously.
    Row {
        upstream: Some("http://127.0.0.1:LOOP/hub"),
        logins: &[HUB, "127.0.0.1:LOOP"],
        sent: &["http://127.0.0.1:LOOP password 1"],
        ..PLAIN
    },
    Row { upstream: Some("http://127.0.0.1:LOOP/hub"), logins: &[HUB], ..PLAIN },
    // Any other name behind a mirror.
    Row {
        source: "ghcr.io/a/b:1",
        upstream: Some("https://mirror.corp/ghcr"),
        logins: &["ghcr.io", "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row { source: "ghcr.io/a/b:1", upstream: Some("http://mirror.corp"), logins: &["ghcr.io"], ..PLAIN },
    // A pull-through prefix gets the login of its own registry.
    Row {
        upstream: Some("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub"),
        logins: &[HUB, ECR],
        sent: &["https://123456789012.dkr.ecr.eu-west-1.amazonaws.com password 1"],
        ..PLAIN
    },
    // Amazon's registries have other names for IPv6 and FIPS, and one login is used for all of them, whichever it was stored under.
    Row {
        source: "123456789012.dkr-ecr.eu-west-1.on.aws/team/app:1",
        logins: &[HUB, ECR],
        sent: &["https://123456789012.dkr-ecr.eu-west-1.on.aws password 1"],
        ..PLAIN
    },
    Row {
        source: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1",
        logins: &["https://123456789012.dkr-ecr-fips.eu-west-1.on.aws"],
        sent: &["https://123456789012.dkr.ecr.eu-west-1.amazonaws.com password 0"],
        ..PLAIN
    },
    Row {
        source: "123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu/team/app:1",
        logins: &[ECR, "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu"],
        sent: &["https://123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu password 1"],
        ..PLAIN
    },
    Row {
        source: "ecr-public.aws.com/team/app:1",
        realm: Some("https://ecr-public.aws.com/token/"),
        logins: &[ECR, "public.ecr.aws"],
        sent: &["https://ecr-public.aws.com password 1", "https://ecr-public.aws.com token 1"],
        ..PLAIN
    },
    // Token services: of the mirror, of another host, and Docker Hub's behind a mirror that passes on the challenge.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1", "https://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        logins: &[HUB, "mirror.corp", "sso.corp"],
        sent: &["https://sso.corp password 1", "https://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://auth.docker.io/token"),
        logins: &[HUB, "mirror.corp"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("http://mirror.corp/token"),
        logins: &[HUB, "mirror.corp"],
        sent: &["http://mirror.corp password 1", "http://mirror.corp token 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("http://mirror.corp:81/token"),
        logins: &["mirror.corp"],
        ..PLAIN
    },
    // Plain http in the realm of a registry that is reached by https: the registry's own address is used.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("http://mirror.corp/token"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("http://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    // A token service that redirects.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        token_redirect: Some("https://sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        token_redirect: Some("http://mirror.corp/token"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    // A registry that redirects: no other server gets a login, whatever is stored for it.
    Row {
        redirect: Some("https://mirror.corp"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://registry-1.docker.io password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        redirect: Some("https://mirror.corp"),
        logins: &["mirror.corp"],
        sent: &["http://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("https://mirror.corp:8443"),
        logins: &["mirror.corp", "mirror.corp:8443"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    // Redirected to plain http, on the same host or another one, and with a user in the address.
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("http://mirror.corp"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("http://store.corp"),
        logins: &["mirror.corp", "store.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        redirect: Some("https://clerk:pin@store.corp"),
        logins: &["mirror.corp", "store.corp"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://clerk:pin@sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    // A realm that is relative to the registry: to its host, or only to its scheme.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("/token"),
        logins: &["mirror.corp"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("//auth.docker.io/token"),
        logins: &["mirror.corp", HUB],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("//sso.corp/token"),
        logins: &["mirror.corp", "sso.corp"],
        ..PLAIN
    },
    // Other spellings of one host: capital letters, the scheme's default port.
    Row {
        upstream: Some("https://MIRROR.corp:443/hub"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://mirror.corp password 1"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://Mirror.Corp:443/token"),
        logins: &["MIRROR.CORP:443"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp:80/hub"),
        logins: &["https://mirror.corp", "mirror.corp:80"],
        sent: &["http://mirror.corp password 1"],
        ..PLAIN
    },
    // The token service at another port is another address.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp:8443/token"),
        logins: &["mirror.corp", "mirror.corp:8443"],
        sent: &["https://mirror.corp:8443 password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    // A registry's token stays with it when it redirects, whatever login the other server has.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://mirror.corp/token"),
        redirect: Some("https://store.corp"),
        logins: &["mirror.corp", "store.corp"],
        sent: &["https://mirror.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        realm: Some("https://auth.docker.io/token"),
        redirect: Some("https://mirror.corp"),
        logins: &[HUB, "mirror.corp"],
        sent: &["https://auth.docker.io password 0", "https://registry-1.docker.io token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        redirect: Some("http://mirror.corp"),
        logins: &["mirror.corp", "sso.corp"],
        sent: &["https://sso.corp password 0", "https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("http://mirror.corp/token"),
        redirect: Some("http://mirror.corp:81"),
        logins: &["mirror.corp", "mirror.corp:81"],
        sent: &["http://mirror.corp password 0", "http://mirror.corp token 0"],
        ..PLAIN
    },
    // A registry under its own name: only its own login, and none of the same company's other hosts.
    Row {
        source: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/docker-hub/x:1",
        logins: &[HUB, ECR],
        sent: &["https://123456789012.dkr.ecr.eu-west-1.amazonaws.com password 1"],
        ..PLAIN
    },
    // A login for a namespace is only used below it, with precedence over the registry's own login there.
    Row { source: "registry.corp/team/app:1", logins: &["registry.corp/other"], ..PLAIN },
    Row {
        source: "registry.corp/team/app:1",
        logins: &["registry.corp/other", "registry.corp"],
        sent: &["https://registry.corp password 1"],
        ..PLAIN
    },
    Row {
        source: "registry.corp/team/app:1",
        realm: Some("https://registry.corp/token"),
        logins: &["registry.corp", "registry.corp/team", "registry.corp/te", "registry.corp/team/app/x"],
        sent: &["https://registry.corp password 1", "https://registry.corp token 1"],
        ..PLAIN
    },
    Row { logins: &[HUB, "docker.io/library"], sent: &["https://registry-1.docker.io password 1"], ..PLAIN },
    Row {
        upstream: Some("https://mirror.corp/hub"),
        logins: &["mirror.corp/hub/library", "mirror.corp/library"],
        sent: &["https://mirror.corp password 0"],
        ..PLAIN
    },
    Row {
        source: "registry.corp/x:1",
        logins: &[HUB, "corp", "other.registry.corp", "registry.corp:5000"],
        ..PLAIN
    },
];

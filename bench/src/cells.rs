//! The comparisons: set, variant, link, tools, rounds.

use crate::Options;
use crate::catalog::{Set, Variant};
use crate::link::Kind;
use crate::tools::Tool;

/// One comparison, in which the tools alternate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The images.
    pub set: Set,
    /// Their form at the source.
    pub variant: Variant,
    /// The link to the registries.
    pub link: Kind,
    /// The compared tools.
    pub tools: Vec<Tool>,
    /// Number of rounds.
    pub rounds: u32,
    /// Whether a cold copy is measured; if not, the target has everything from the start.
    pub cold: bool,
    /// Whether it measures memory and files instead of time.
    pub watch_files: bool,
}

impl Cell {
    fn new(set: Set, variant: Variant, link: Kind, tools: &[Tool], rounds: u32) -> Self {
        let (cold, watch_files) = (set != Set::Tiny, set == Set::Big);
        Self { set, variant, link, tools: tools.to_vec(), rounds, cold, watch_files }
    }

    /// The rounds of one tool by default: all for tools that have a stricter goal than not being slower, five for the others, and one for
    /// clients that are slow with 500 images.
    pub fn rounds_of(&self, tool: Tool, options: &Options) -> u32 {
        if options.full || options.rounds.is_some() {
            return self.rounds;
        }
        let is_slow = !matches!(tool, Tool::Ours | Tool::Ocync);
        match tool {
            _ if self.set == Set::Tiny && is_slow => 1,
            Tool::Ours | Tool::Floor | Tool::SkopeoX4 => self.rounds,
            _ => self.rounds.min(5),
        }
    }
}

/// All comparisons, the most important first: if the time is up, the rest is left out.
pub fn cells(options: &Options) -> Vec<Cell> {
    use Kind::{Gigabit, Loopback, Slow, Static};
    use Variant::{Index, Single};
    let many: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| *tool != Tool::Docker).collect();
    let without = |left_out: &[Tool]| -> Vec<Tool> {
        many.iter().copied().filter(|tool| options.full || !left_out.contains(tool)).collect()
    };
    // One by one takes minutes over 40 ms or with many images, and shows nothing that four in parallel do not.
    let far = without(&[Tool::Skopeo]);
    // The same applies to clients that copy one image after another, or start a process for each, with many small images over a slow link.
    let far_small = without(&[Tool::Skopeo, Tool::CraneX4, Tool::RegctlX4, Tool::OrasX4, Tool::Regsync]);
    // At 100 Mbit/s the link limits every tool.
    let slow = if options.full { far.clone() } else { vec![Tool::Ours] };
    // The floor has no run with nothing to do. With 500 images the others take up to two minutes per run over 40 ms.
    let near: Vec<Tool> = far.iter().copied().filter(|tool| *tool != Tool::Floor).collect();
    let idle = if options.full { near.clone() } else { vec![Tool::Ours, Tool::Regsync] };
    let rounds = options.rounds.unwrap_or(if options.full { 9 } else { 5 });
    // The goals for ours on loopback are differences of a few tenths.
    let many_rounds = options.rounds.unwrap_or(9);
    let few = |default: u32| options.rounds.unwrap_or(default);
    let mut cells = vec![
        Cell::new(Set::Grid, Single, Loopback, &many, many_rounds),
        Cell::new(Set::Small, Single, Loopback, &far, many_rounds),
        Cell::new(Set::Big, Single, Loopback, &[Tool::Ours, Tool::Skopeo], few(2)),
        Cell::new(Set::Grid, Single, Gigabit, &far, rounds),
        Cell::new(Set::Tiny, Index, Gigabit, &idle, rounds),
        Cell::new(Set::Small, Single, Gigabit, &far_small, rounds),
        Cell::new(Set::Grid, Single, Slow, &slow, rounds),
        Cell::new(Set::Grid, Single, Loopback, &[Tool::Ours, Tool::Docker], few(3)),
        Cell::new(Set::Grid, Index, Loopback, &many, rounds),
        Cell::new(Set::Tiny, Single, Loopback, &near, rounds),
        Cell::new(Set::Grid, Index, Gigabit, &far, rounds),
        Cell::new(Set::Small, Index, Loopback, &far, rounds),
    ];
    if options.full {
        cells.extend([
            Cell::new(Set::Small, Index, Gigabit, &far_small, rounds),
            Cell::new(Set::Tiny, Single, Gigabit, &idle, rounds),
            Cell::new(Set::Tiny, Index, Loopback, &near, rounds),
            Cell::new(Set::Grid, Index, Slow, &slow, rounds),
            Cell::new(Set::Small, Single, Slow, &slow, rounds),
            Cell::new(Set::Small, Index, Slow, &slow, rounds),
            Cell::new(Set::Big, Index, Loopback, &[Tool::Ours, Tool::Skopeo], few(2)),
        ]);
    }
    if options.soak || options.only.contains(&Set::Scale) {
        let alone = [Tool::Ours, Tool::Floor];
        // A docker-registry as source, on the same cores, would take a large part of the measured time.
        let links = if options.link.is_empty() { &[Static][..] } else { &options.link };
        let of_link = |link: &Kind| Set::SCALE.map(|set| Cell::new(set, Single, *link, &alone, few(3)));
        cells.extend(links.iter().flat_map(of_link));
    }
    if options.only.contains(&Set::Smoke) {
        cells.push(Cell::new(Set::Smoke, Single, Loopback, &many, rounds));
        cells.push(Cell::new(Set::Smoke, Index, Loopback, &many, rounds));
        cells.push(Cell::new(Set::Smoke, Single, Gigabit, &far, rounds));
    }
    let wanted = if options.soak { &[Set::Scale][..] } else { &options.only };
    let is_asked = |tool: &Tool| options.tool.is_empty() || options.tool.contains(tool);
    cells.retain_mut(|cell| {
        // Docker has its own comparison, which makes no sense without it.
        let has_point = is_asked(&Tool::Docker) || !cell.tools.contains(&Tool::Docker);
        cell.tools.retain(is_asked);
        has_point
            && (wanted.is_empty() || wanted.contains(&cell.set.named()))
            && (options.link.is_empty() || options.link.contains(&cell.link))
            && !cell.tools.is_empty()
    });
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            full: false,
            soak: false,
            rounds: None,
            only: vec![],
            link: vec![],
            tool: vec![],
            xtask: None,
            out: None,
            floor_jobs: 8,
        }
    }

    #[test]
    fn full_is_more_than_the_default_and_filters_narrow() {
        let default = cells(&options());
        let full = cells(&Options { full: true, ..options() });
        assert!(full.len() > default.len());
        let rounds = |cells: &[Cell]| (cells[0].rounds, cells[3].rounds);
        assert_eq!((rounds(&full), rounds(&default)), ((9, 9), (9, 5)));
        let only = cells(&Options { only: vec![Set::Big], tool: vec![Tool::Ours], ..options() });
        assert_eq!(only.len(), 1);
        assert_eq!((only[0].tools.as_slice(), only[0].rounds), (&[Tool::Ours][..], 2));
        assert!(cells(&Options { only: vec![Set::Big], link: vec![Kind::Slow], ..options() }).is_empty());
    }

    #[test]
    fn scale_is_measured_where_it_is_asked_for() {
        let sizes = |options: &Options| cells(options).iter().map(|cell| cell.set).collect::<Vec<_>>();
        assert!(sizes(&options()).iter().all(|set| !Set::SCALE.contains(set)));
        assert_eq!(sizes(&Options { soak: true, ..options() }), Set::SCALE);
        let scale = Options { only: vec![Set::Scale], ..options() };
        assert_eq!(sizes(&scale), Set::SCALE);
        assert!(cells(&scale).iter().all(|cell| cell.link == Kind::Static));
        let near = Options { link: vec![Kind::Loopback], ..scale };
        assert_eq!(sizes(&near), Set::SCALE);
        assert!(cells(&near).iter().all(|cell| cell.link == Kind::Loopback));
    }

    #[test]
    fn every_set_is_measured_as_manifests_and_as_indexes_in_full() {
        let full = cells(&Options { full: true, ..options() });
        for set in [Set::Grid, Set::Small, Set::Big, Set::Tiny] {
            for variant in [Variant::Single, Variant::Index] {
                assert!(
                    full.iter().any(|cell| cell.set == set && cell.variant == variant),
                    "{set:?} {variant:?}"
                );
            }
        }
    }
}

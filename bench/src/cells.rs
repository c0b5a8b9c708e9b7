//! Which comparisons are made: set, variant, link, tools, rounds.

use crate::Options;
use crate::catalog::{Set, Variant};
use crate::link::Kind;
use crate::tools::Tool;

/// One comparison: its tools take turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The images.
    pub set: Set,
    /// How they stand at the source.
    pub variant: Variant,
    /// The way to them.
    pub link: Kind,
    /// Who takes turns.
    pub tools: Vec<Tool>,
    /// How many turns.
    pub rounds: u32,
    /// Whether a cold copy is measured; if not, the target has everything from the start.
    pub cold: bool,
    /// Whether it is about memory and files rather than time.
    pub watch_files: bool,
}

impl Cell {
    fn new(set: Set, variant: Variant, link: Kind, tools: &[Tool], rounds: u32) -> Self {
        let (cold, watch_files) = (set != Set::Tiny, set == Set::Big);
        Self { set, variant, link, tools: tools.to_vec(), rounds, cold, watch_files }
    }

    /// The turns of one tool, unless there is time: all for those that more is asked of than not to be faster, five for the others,
    /// and one for a client that is slow at 500 images.
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

/// Everything that is to be measured, what matters most first: where time runs out, the end is left out.
pub fn cells(options: &Options) -> Vec<Cell> {
    use Kind::{Gigabit, Loopback, Slow, Static};
    use Variant::{Index, Single};
    let many: Vec<Tool> = Tool::ALL.into_iter().filter(|tool| *tool != Tool::Docker).collect();
    let without = |left_out: &[Tool]| -> Vec<Tool> {
        many.iter().copied().filter(|tool| options.full || !left_out.contains(tool)).collect()
    };
    // One by one takes minutes over 40 ms or of many images, and tells nothing that four at once does not.
    let far = without(&[Tool::Skopeo]);
    // Nor does a client that takes one image after another, or a process for each, where many small ones are far away.
    let far_small = without(&[Tool::Skopeo, Tool::CraneX4, Tool::RegctlX4, Tool::OrasX4, Tool::Regsync]);
    // At 100 Mbit/s the link decides for everybody.
    let slow = if options.full { far.clone() } else { vec![Tool::Ours] };
    // The floor has no run with nothing to do. 500 images take the others up to two minutes a turn over 40 ms.
    let near: Vec<Tool> = far.iter().copied().filter(|tool| *tool != Tool::Floor).collect();
    let idle = if options.full { near.clone() } else { vec![Tool::Ours, Tool::Regsync] };
    let rounds = options.rounds.unwrap_or(if options.full { 9 } else { 5 });
    // What is asked of ours on loopback is a matter of tenths.
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
        // A docker-registry as source, on the same cores, would be a good part of what is measured.
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
        // Docker has a comparison of its own, which without it is none.
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

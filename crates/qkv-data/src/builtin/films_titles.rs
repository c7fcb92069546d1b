//! The films of `builtin:films` and the people who see them, written down by hand: how much there is of love, action and
//! laughter in a film, and how much of each a person wants.
//!
//! Here belong the numbers that a person chose. What is drawn from them belongs in [`films`](super::films).

/// The features, in the order in which every vector has them.
pub(super) const FEATURE_NAMES: [&str; FILM_FEATURES] = ["love", "action", "laughter"];

/// How many features a film of `builtin:films` has.
pub const FILM_FEATURES: usize = 3;

/// Films in parts: title, features of all of them, how many parts there are. From −1, the opposite of it, to 1, full of it.
pub(super) const SERIES: &[(&str, [f32; FILM_FEATURES], usize)] = &[
    ("The Iron Harbour", [-0.7, 0.9, -0.5], 5),
    ("Nine Minutes to Dawn", [-0.5, 0.9, -0.7], 3),
    ("Captain Quill", [0.1, 0.8, 0.6], 5),
    ("The Cartographer's Niece", [0.8, 0.5, -0.3], 3),
    ("Letters to Odile", [1.0, -0.8, -0.4], 3),
    ("Aunt Hedwig Moves In", [-0.1, -0.6, 0.9], 4),
    ("The Glass Orchard", [0.6, -0.7, -0.7], 3),
    ("Two Left Feet", [0.7, -0.4, 0.8], 4),
    ("Convoy Eleven", [-0.8, 0.8, -0.8], 4),
    ("Robot Plumbers", [-0.6, 0.6, 0.9], 4),
    ("The Quiet Ledger", [-0.6, -0.7, -0.6], 3),
    ("Sir Bramble", [0.2, 0.5, 0.8], 4),
    ("Moonlight Ferry", [0.9, -0.5, 0.2], 3),
    ("Storm Riders of Vell", [0.3, 0.9, 0.1], 5),
    ("The Wedding Thieves", [0.7, 0.6, 0.7], 3),
    ("Department of Odd Affairs", [-0.5, 0.1, 0.8], 5),
    ("Snowed In with Bertram", [0.8, -0.6, 0.5], 3),
    ("The Second Signal", [-0.4, 0.7, -0.6], 4),
    ("Grandfather's Orchestra", [0.3, -0.8, 0.5], 3),
    ("Ash and Amaranth", [0.6, 0.8, -0.6], 5),
    ("Kitchen of Geese", [-0.2, -0.3, 1.0], 3),
    ("The Salt Caravan", [-0.1, 0.6, -0.7], 3),
    ("Pepper and Clementine", [0.9, -0.2, 0.8], 4),
    ("The River Below", [-0.6, 0.4, -0.4], 3),
    ("The Long Sonata", [0.5, -0.9, -0.8], 3),
    ("Turbo Nuns", [-0.7, 0.8, 0.8], 4),
    ("A House with Blue Doors", [0.4, -0.8, -0.2], 3),
    ("Kestrel Squadron", [-0.3, 1.0, -0.2], 5),
    ("The Duchess of Tuesday", [0.9, 0.2, 0.4], 4),
    ("Half a Sandwich", [-0.5, -0.7, 0.7], 3),
];

/// Films that are alike and stand each for itself: a title with `*` for a [place](PLACES), and what is common to them.
pub(super) const KINDS: &[(&str, [f32; FILM_FEATURES])] = &[
    ("A Kiss in *", [0.9, -0.7, 0.3]),
    ("Gunsmoke over *", [-0.8, 0.9, -0.4]),
    ("Confusion in *", [0.1, -0.3, 0.9]),
    ("The Widow of *", [0.4, -0.8, -0.7]),
    ("The Way Out of *", [-0.4, 0.8, -0.6]),
    ("Honeymoon in *", [0.8, -0.2, 0.8]),
    ("* Must Not Fall", [-0.3, 0.9, -0.9]),
    ("The Barber of *", [-0.4, -0.5, 0.8]),
    ("Two Hearts of *", [1.0, 0.3, -0.6]),
    ("November in *", [0.0, -0.9, -0.6]),
    ("The Clumsy Spy of *", [0.1, 0.7, 0.9]),
    ("The Archivist of *", [-0.7, -0.8, -0.3]),
    ("The Dancers of *", [0.7, 0.6, 0.2]),
];

/// Places that there are not.
pub(super) const PLACES: &[&str] = &[
    "Varn",
    "Ostermere",
    "Little Pell",
    "Kalloway",
    "Port Sorrel",
    "Tamsin Bay",
    "Greyford",
    "Miravel",
    "Old Brannock",
    "Zellin",
];

/// Kinds of people: how much they want of each feature, from −1, none of it, to 1, as much as there is.
pub(super) const TASTES: &[[f32; FILM_FEATURES]] = &[
    // lovers of romance, of action, of comedy
    [0.9, -0.6, 0.1],
    [-0.6, 0.9, -0.2],
    [0.0, -0.3, 0.9],
    // of two at once
    [0.8, -0.3, 0.8],
    [-0.4, 0.8, 0.8],
    [0.8, 0.7, -0.4],
    // of what is sad, grim, dry or quiet
    [0.5, -0.8, -0.7],
    [-0.5, 0.6, -0.8],
    [-0.8, -0.4, 0.6],
    [-0.6, -0.8, -0.5],
    // of nearly everything
    [0.4, 0.5, 0.4],
];

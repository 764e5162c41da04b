"""Word lists of the story grammar; stories.py says how a slot draws from them.

An entry is text, which may itself hold slots and choices, or a dictionary
of several forms of one word: {"": the word itself, "form": another form}.
Words begin with a vowel letter exactly when they take "an" ("unicorn" and
"hour" are left out), and no name ends in s.
"""


def words(text):
    return [w.strip() for w in text.split(",")]


def forms(names, rows):
    """Entries of several forms, from a line of names and a table of rows."""
    names = ["" if n == "word" else n for n in words(names)]
    return [dict(zip(names, words(row))) for row in rows.strip().splitlines()]


GIRLS = words("""Anna, Lily, Mia, Ella, Rosa, Clara, Nora, Ruby, Emma, Lucy, Maya, Sara, Zoe, Ivy,
    Molly, Amy, Nina, Eva, Julia, Sophie, Tara, Leila, Hana, Grace, Olive, Wendy, Kate, Poppy""")
BOYS = words("""Tom, Ben, Leo, Max, Sam, Jack, Oliver, Finn, Noah, Peter, Henry, Adam, Luke, Omar,
    Theo, Tim, Daniel, Hugo, Milo, Oscar, Eric, Paul, Jonah, Ravi, Nico, Walter, Simon, Arthur""")
ANIMAL_GIRLS = words("""Daisy, Hazel, Clover, Bella, Willow, Pearl, Honey, Tilly, Dotty, Fern,
    Juniper, Mimi, Penny, Snowy, Misty, Nutmeg""")
ANIMAL_BOYS = words("""Pip, Bramble, Rusty, Toby, Barley, Benny, Dusty, Fuzzy, Monty, Pepper,
    Rocky, Teddy, Ziggy, Bruno, Nibble, Copper""")
ANIMALS = words("""fox, rabbit, bear, mouse, squirrel, hedgehog, duck, frog, cat, puppy, kitten,
    lamb, owl, otter, badger, turtle, penguin, goat, pony, beaver, mole, sparrow, deer, pig,
    goose, lion, elephant, monkey, panda, raccoon, tiger, donkey""")
ELDERS_SHE = words("""Grandma Rose, Grandma Edith, Aunt May, Aunt Flora, Mrs. Green, Mrs. Bell,
    Mrs. Brown, Granny Ann""")
ELDERS_HE = words("""Grandpa Joe, Grandpa Albert, Uncle Bob, Uncle Fred, Mr. Hill, Mr. Wood,
    Mr. Baker, Old Martin""")

LISTS = {
    "size": words("little, small, young, tiny"),
    "trait": words("""kind, brave, curious, cheerful, clever, gentle, friendly, playful, shy,
        quiet, polite, eager, lively, thoughtful, merry, patient, bold, helpful,
        careful, warm-hearted, dreamy"""),
    "hobby": words("""climbing trees, singing songs, reading books, painting pictures, dancing,
        picking flowers, telling jokes, watching the clouds, collecting stones, counting the stars,
        jumping in puddles, listening to stories, playing in the grass, chasing butterflies,
        drawing maps, splashing in the stream, feeding the birds, rolling down hills"""),
    "place": words("""a quiet village by the sea, a small house near the forest,
        a cottage at the edge of the woods, a sunny valley, a tall house on a hill,
        a busy little town, a farmhouse among apple trees, a cosy house beside a river,
        a green forest, a village at the foot of a mountain, a cabin by a blue lake,
        a town with a big clock tower, a white house with a red door, a little old mill,
        a warm land far away, a village where everyone knew everyone, a house under a huge oak tree,
        a valley full of flowers, a harbour town, a yellow house near the park"""),
    "weather": words("""sunny, windy, clear, warm, bright, chilly, misty, cloudy, golden, fine,
        cool, lovely, breezy"""),
    "time": words("morning, afternoon, day"),
    "spot": words("""the old bridge, the pond, the mill, the big oak tree, the market, the school,
        the meadow, the river, the orchard, the well, the stone wall, the barn, the park,
        the village square, the hill, the library, the beach, the little stream"""),
    "hidden": words("""under a wooden bench, behind the old mill, inside a hollow log,
        under the bed, behind a pile of leaves, between two rocks, inside an empty barrel,
        behind the garden shed, under a big bush, beside the fence, in the tall grass,
        under the stairs, behind the curtain, at the bottom of the basket, on top of the cupboard,
        near the chicken house, under a heap of straw, inside an old boot, behind a row of flower pots,
        under the kitchen table"""),
    "junk": words("""an old sock, a rusty nail, a broken cup, an empty box, a dusty bottle,
        a sleepy snail, a bent spoon, a ball of wool, a pine cone, a fat green beetle,
        a muddy shoe, a piece of string, an acorn, a torn map, a grey feather, a cobweb,
        a smooth pebble, a wet leaf"""),
    "colour": words("""red, blue, green, yellow, purple, orange, pink, white, silver, golden, brown,
        black"""),
    "look": words("""shiny, striped, bright, old, new, pretty, spotted, lovely, beautiful, fine, tiny,
        wonderful"""),
    "thing": words("""ball, kite, drum, teddy bear, scarf, hat, whistle, spinning top, doll, ring,
        button, music box, umbrella, lantern, bell, book, key, toy boat, toy train, mitten, basket,
        blanket, bracelet, flute, paintbrush, marble, ribbon, puppet, watch, necklace, shell, coat,
        rocking horse, telescope, compass, purse"""),
    "treasure": ["{colour} {thing}", "{look} {thing}"],
    "game": words("""hide and seek, tag, catch, hopscotch, leapfrog, marbles, pirates, chess,
        follow the leader, ball, explorers, kings and queens"""),
    "fruit": words("""apple, pear, plum, peach, cherry, orange, strawberry, apricot, banana,
        blueberry, melon, fig"""),
    "flower": words("""rose, tulip, daisy, lily, sunflower, violet, poppy, bluebell, daffodil,
        marigold, snowdrop, iris, pansy, orchid"""),
    "cake": words("""apple pie, carrot cake, honey cake, cherry pie, chocolate cake, lemon cake,
        plum pie, nut cake, berry tart, pumpkin pie, ginger cake, banana bread, orange cake"""),
    "ingredient": words("""flour, sugar, butter, honey, milk, cream, salt, cinnamon, yeast,
        vanilla"""),
    "soup": words("""carrot soup, pumpkin soup, chicken soup, tomato soup, onion soup,
        noodle soup, bean soup, potato soup"""),
    "number": words("two, three, four, five, six, seven"),
    "sad": words("sad, worried, unhappy, upset, gloomy, miserable"),
    "happy": words("happy, glad, joyful, delighted, pleased, thrilled, cheerful"),
    "sadly": words("sadly, quietly, softly, with a sigh, in a small voice, with tears in {his} eyes"),
    "gladly": words("""happily, with a big smile, with a laugh, joyfully, with shining eyes,
        cheerfully"""),
    "went": words("walked, hurried, ran, went, skipped, marched, wandered"),
    "busy": words("""washing windows, mending a net, sweeping the path, chopping wood, taking a nap,
        counting nuts, building a wall, hanging up the washing, writing a letter, digging a hole,
        carrying water, feeding the hens, picking beans, fixing a wheel"""),
    "chore": forms("word, did", """
        sweep the yard, swept the yard
        water the plants, watered the plants
        wash the dishes, washed the dishes
        feed the hens, fed the hens
        paint the fence, painted the fence
        stack the wood, stacked the wood
        carry the milk, carried the milk
        pick the beans, picked the beans
        clean the windows, cleaned the windows
        rake the leaves, raked the leaves
        brush the horses, brushed the horses
        fold the sheets, folded the sheets"""),
    "skill": forms("word, doing, part", """
        swim, swimming, move your legs like a frog
        whistle, whistling, make your lips very round
        skate, skating, bend your knees a little
        juggle, juggling, look up and not down
        sing, singing, breathe in slowly
        dance, dancing, listen to the beat
        ride a bicycle, riding a bicycle, look straight ahead
        paint, painting, begin with a light colour
        play the flute, playing the flute, blow very gently
        play the drum, playing the drum, count to four
        knit, knitting, hold the wool loosely
        tell stories, telling stories, begin with something small
        row a boat, rowing a boat, pull with both arms
        climb a rope, climbing a rope, hold on with your feet too
        fly a kite, flying a kite, run against the wind
        write poems, writing poems, write about what you see"""),
    "fear": forms("word, place, try, did", """
        the dark, the dark cave, peeked into the dark cave, walked into the dark cave
        high places, the tall tower, looked up at the tall tower, climbed up the tall tower
        deep water, the deep pond, dipped one toe in the deep pond, swam across the deep pond
        the forest, the thick forest, stood before the thick forest, walked into the thick forest
        narrow bridges, the narrow bridge, put one foot on the narrow bridge, crossed the narrow bridge
        ladders, the long ladder, touched the long ladder, climbed up the long ladder
        spiders, the dusty attic, opened the door of the dusty attic, crept into the dusty attic
        being alone, the empty field, stepped into the empty field, walked across the empty field
        old houses, the creaky old house, knocked at the creaky old house, went into the creaky old house
        mud and slime, the green swamp, smelled the green swamp, waded through the green swamp
        tunnels, the long tunnel, shouted into the long tunnel, crawled through the long tunnel"""),
    "project": forms("word, broke, part, use", """
        tree house, the floor fell out, strong rope, sat in it
        raft, it filled with water, three long logs, floated down the stream on it
        kite, the paper tore, a light stick, flew it over the fields
        seesaw, it broke in the middle, a thick board, went up and down on it
        birdhouse, the roof fell off, a small hammer, watched the birds move into it
        wagon, a wheel rolled away, four good wheels, rode down the lane in it
        swing, the knot came loose, a long chain, took turns on it
        little bridge, it fell into the stream, some flat stones, walked across it
        scarecrow, its arms dropped off, a straight pole, dressed it in a silly hat
        puppet theatre, the curtain fell down, a piece of red cloth, gave a show in it
        boat, it tipped over, a tall mast, sailed around the lake in it"""),
    "animal": ANIMALS,
    "baby": words("""owl, duckling, lamb, kitten, puppy, fawn, bear cub, chick, fox cub, bunny,
        piglet, gosling, foal, seal pup"""),
    "noise": words("""a soft cry, a tapping sound, a tiny squeak, a rustling noise, a sad little song,
        a scratching sound, an odd whimper"""),
    "moral": ["sharing makes everything better", "good friends are the best treasure of all",
              "it is all right to ask for help", "kindness always comes back",
              "small steps can take you far", "nobody should give up too soon",
              "every day can bring something new", "two can do more than one"],
    "nightfall": words("""the sun went down, the stars came out, the moon rose over the hills,
        the sky turned pink, evening came, it grew dark"""),
}

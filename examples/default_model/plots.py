"""The plots of the story grammar, as templates; stories.py says how they expand.

Every plot follows one shape: someone wants something, something is in the
way, tries fail, a helper comes, and the thing wanted at the start is the
thing reached at the end.
"""

# Parts the plots share, drawn like words.
PARTS = {
    "opening": [
        "Once upon a time, there was {hero.intro}. {He} lived in {place}.",
        "Once upon a time, there was {hero.intro} who lived in {place}.",
        "Once upon a time, in {place}, there lived {hero.intro}.",
        "Once upon a time, {hero.intro} lived in {place}.",
        "Long ago, in {place}, there lived {hero.intro}.",
        "There once was {hero.intro} who lived in {place}.",
        "In {place}, there lived {hero.intro}.",
        "{Hero} was {a size} {hero.kind} who lived in {place}.",
        "This is the story of {hero.intro}. {He} lived in {place}.",
        "Far away, in {place}, lived {hero.intro}.",
    ],
    "start": [
        "{opening} {Hero} was {trait3} and {trait4}.",
        "{opening} {He} loved {hobby}.",
        "{opening} Nothing made {him} happier than {hobby}.",
        "{opening} {Hero} was [always|very] {trait3}, and {he} loved {hobby}.",
        "{opening}",
    ],
    "oneday": ["One {weather} {time},", "One {weather} {time} in [spring|autumn],"],
    "cry": ['{Hero} [felt|was] {sad}.',
            '{Hero} sat down and [began to cry|sighed|hid {his} face].',
            'A tear rolled down {his} [cheek|nose].'],
    "meet": ["[Just then|A moment later|Soon after], {friend.intro} came by.",
             "[Just then|A little later], {he} met {friend.intro}.",
             "[Suddenly|At that moment], {hero} heard [a friendly voice|steps behind {him}]. "
             "It was {friend}, {a trait2} {friend.kind} from next door."],
    "advice": ['"[Do not worry|Do not give up|Dry your eyes], {hero}," said {elder}.',
               '{Elder} [smiled|nodded] and put a hand on {hero}\'s shoulder.'],
    "thanks": ['"Thank you, {friend}!" said {hero} {gladly}. '
               '"[You are so kind|You are a true friend|I could not have done it alone]."',
               '{Hero} gave {friend} a big hug. '
               '"[Thank you so much|Thank you for helping me]!" {he} said.'],
    "ending": [
        "From that day on, {hero} and {friend} were [best|good|the best of] friends.",
        "And {hero} never forgot that {moral}.",
        "That night, {hero} fell asleep with a smile, for {he} had learned that {moral}.",
        "When {nightfall2}, {hero} went home, tired but {happy}.",
        "After that, {hero} and {friend} played together every day.",
        'That evening, {hero} told {his} family all about it. "I learned that {moral}," {he} said.',
    ],
}

PLOTS = [

# A lost thing
"""
{start} [{Hero}|{He}] had {a treasure}, and {he} [took it everywhere|loved it more than
anything|kept it close all the time]. [It had been a gift from {elder}.|{Elder} had made it for
{him}.|]

{oneday} {hero} [woke up|came home|looked around] and the {treasure} was gone. "Oh no!" cried
{hero}. "Where is my {treasure}?" {He} wanted to find it before [night|dinner|dark].

First, {he} looked {hidden}, but there was only {junk}. Then {he} looked {hidden2}, but all {he}
found was {junk2}. {cry}

{meet} "Why are you so {sad}?" asked {friend}. "I have lost my {treasure}," said {hero} {sadly}.
"[I will help you look|Let us look together|Two can look better than one]," said {friend}.

Together they {went} to {spot}. {Friend} looked {hidden3}, and there was the {treasure}! "[Here it
is|I found it|Look]!" said {friend}. {Hero} [jumped for joy|was so {happy}|laughed out loud].
{thanks}

[From then on, {hero} took good care of the {treasure}.|{Hero} carried the {treasure} home and
never lost it again.] {ending}
""",

# Making a friend
"""
{start} But {hero} had no one to play with. {He} wanted a friend [very much|more than anything].

{oneday} {hero} {went} to {spot}. There {he} saw {a animal}. "Will you play with me?" asked
{hero}. "Not today," said the {animal}. "I am busy {busy}." Next, {he} asked {a animal2}. "I am
sorry," said the {animal2}. "I am busy {busy2}." {cry}

Then {hero} heard {noise}. [{Hidden}|Someone was {hidden}. There] sat {friend.intro}. "Why are you
hiding?" asked {hero}. "I am new here, and I am too shy to talk to anyone," said {friend}. "I do
not have a friend."

{Hero} [smiled|held out {his} hand]. "I do not have a friend either," {he} said. "Do you want to
play {game}?" {Friend} looked up and nodded. "I [love|like] {game}!" {friend.he} said.

They played {game} until {nightfall}. {Friend} showed {hero} {a treasure}, and {hero} [told
{friend} funny stories|shared {a fruit} with {friend}]. "Will you come back tomorrow?" asked
{friend}. "Of course," said {hero}. "[That is what friends do|You are my friend now]."

[Now {hero} had the friend {he} had always wanted.|{Hero} had found a friend at last.] {ending}
""",

# Baking
"""
{start} {oneday} {hero} wanted to bake {a cake} for {elder}. It was {elder}'s birthday, and
{elder.he} loved {cake} [best of all|more than any other food].

{Hero} [put on an apron|washed {his} hands|opened the big cook book]. But there was no
{ingredient} in the kitchen! {He} {went} to the shop, but the shop was closed. {He} tried to bake
without {ingredient}, but the {cake} was [flat and hard|dry and bitter|black and hard]. "Oh dear,"
said {hero} {sadly}. "[I cannot give this to {elder}|Nobody can eat this|This will not do]."

{meet} "What is wrong?" asked {friend}. "I need some {ingredient} for my {cake}," said {hero}. "I
have {ingredient}!" said {friend}. "[Wait here|I will bring you some|Come with me]."

Soon they were in the kitchen together. {Hero} mixed the {ingredient} with the {ingredient2}, and
{friend} [stirred the bowl|watched the oven|cut up {some fruit}]. This time the {cake} was [soft
and sweet|warm and golden|just right]. It smelled wonderful. {thanks}

In the evening, they took the {cake} to {elder}. "For me?" cried {elder}. "It is the best {cake} I
have ever had!" They all ate a [big|huge|warm] piece. {ending}
""",

# A fear overcome
"""
{start} But {hero} was afraid of {fear}. {He} wanted to be brave, but {he} did not know how.

{oneday} {hero} {fear.try}. {His} knees began to shake, and {he} ran home. The next day {he} tried
again, but {his} heart beat so fast that {he} [turned back|ran away|closed {his} eyes]. "I will
never be brave," said {hero} {sadly}.

{advice} "[Everyone is afraid of something|I was afraid of {fear} too when I was young]. Being
brave means taking one small step, and then another."

A few days later, {hero} heard someone call for help. It was {hero}'s friend {friend}, {a trait2}
{friend.kind}. {Friend} had gone to {fear.place} to look for {a treasure}, and now {friend.he}
[was lost|was stuck|had hurt {friend.his} foot]. {Hero} was afraid of {fear}, but {he} wanted to
help {friend}. "One small step," said {hero}, "and then another." Slowly, {he} {fear.did}.

"{Hero}, you came!" cried {friend}. {Hero} took {friend}'s hand, and they went home together. The
{treasure} was safe too. "You are so brave," said {friend} {gladly}. {Hero} [smiled|laughed]. {He}
was not afraid of {fear} anymore. {ending}
""",

# A storm
"""
{start} {oneday} {hero} was playing near {spot} with {a treasure}. Suddenly, dark clouds filled
the sky, and the wind began to [howl|blow|roar]. {Hero} wanted to get home, but the storm was [too
strong|coming fast|all around {him}].

First, {he} hid under a tree, but the rain came through the leaves. Then {he} tried to run, but
the wind [pushed {him} back|blew the {treasure} out of {his} hands|knocked {him} down]. "Help!"
cried {hero}. "Is anybody there?"

"Over here!" called a voice. It was {friend.intro}. "[Come into my house|Come in|Quick, follow
me], it is warm and dry inside." {Hero} ran to the door as fast as {he} could. {Friend} gave {him}
a dry blanket and a bowl of {soup}. "Are you afraid of the storm?" asked {friend}. "A little,"
said {hero}. "Me too," said {friend}. "But it is easier when there are two of us."

They [sang songs|told stories|played {game}] until the storm was over. Then they saw [a big
rainbow|a rainbow over {spot}|the sun again]. {Hero} found the {treasure} {hidden}. It was wet,
but it was not broken. "Now I can take you home," said {friend}.

[{thanks}|] [Soon {hero} was safe at home.|{His} family was so {happy} to see {him} safe at home.]
{ending}
""",

# A race
"""
{start} Every year there was a big race from {spot} to {spot2}. The prize was {a treasure}. {Hero}
wanted to win the {treasure} [very much|more than anything|this year].

{Hero} practised every morning. The first time, {he} [tripped over a stone|fell into a puddle|ran
the wrong way]. The second time, {he} was [too slow|out of breath|tired before the end]. {advice}
"[Run a little every day, and you will get better|Do your best, and have fun]."

At last it was the day of the race. {Hero} stood next to {friend.intro}. "Good luck," said {hero}.
"[Ready, steady, go|One, two, three, go]!" called {elder}. {Hero} ran [like the wind|as fast as
{he} could]. Soon they were in front of everyone.

Then {friend} fell and hurt {friend.his} [foot|knee]. {Hero} could win now! But {he} looked back
and saw that {friend} was crying. {Hero} stopped. "Take my hand," {he} said. "[We can finish
together|I will help you]." So they crossed the line together, hand in hand, and everyone
[cheered|clapped].

"You have both won," said {elder} {gladly}, and gave them the {treasure}. "[You keep it first|It
belongs to both of us]," said {friend}. {Hero} was {happy}. {He} had won the {treasure}, and a
friend too. {ending}
""",

# Sharing
"""
{start} {oneday} {hero} found {number} {s fruit} near {spot}. They were [big and sweet|ripe and
juicy|the best {he} had ever seen]. {He} wanted to [have a feast|eat them all|have a wonderful
picnic].

{meet} "What lovely {s fruit}!" said {friend}. "May I have one? I am so hungry." But {hero} [shook
{his} head|held the {s fruit} tight]. "No," {he} said. "They are all mine." {Friend} went away
with [{friend.his} head down|tears in {friend.his} eyes].

{Hero} ate one {fruit}, but it did not taste good. {He} ate another {fruit}, but it was no fun to
eat alone. {cry} {He} {went} to {elder} and told {elder.him} everything. "[A feast is no feast
without a friend|Food tastes better when you share it]," said {elder}. "It is never too late to
say sorry."

So {hero} {went2} back and found {friend} {hidden}. "I am sorry," said {hero}. "Please have some
of my {s fruit}." {Friend} [smiled|looked up]. "Thank you," {friend.he} said. "I have some {cake}.
You can share it with me."

They sat down in the grass and ate the {s fruit} and the {cake} together. It was the best
[feast|picnic|meal] of {hero}'s life. {ending}
""",

# A secret garden
"""
{start} {oneday} {hero} found a [small|rusty|golden] key {hidden}. "What does it open?" {he}
wondered. {He} tried it in the door of the barn, but it did not fit. {He} tried it in an old
chest, but it did not fit there either.

Then, behind {spot}, {he} saw a little {colour} gate. The key turned with a click. Inside was a
secret garden, but everything was dry and grey. Only one small {flower} was left, and it hung its
head. "Poor {flower}," said {hero}. "I want to make this garden bloom again."

{Hero} [carried water from the well|pulled up the weeds] all day, but nothing grew. The next day
{he} [sang to the {flower}|dug the hard ground], but still nothing grew. {cry} So {he} asked
{elder} for help. "A garden needs [time and love|sun and rain and a friend]," said {elder}, and
gave {him} a bag of {flower} seeds.

{Hero} went back with {friend.intro}. They planted the seeds, and {friend} watered them every
morning. At last, one {weather2} day, {friend} called, "Come quickly!" There were {s flower}
everywhere, {colour2} ones and {colour3} ones. The garden was in bloom again!

"[We did it|It is so beautiful|Our garden is alive]!" said {hero} {gladly}. [Soon the bees and the
birds came back too.|Even the birds began to sing.|] {ending}
""",

# Building something
"""
{start} {oneday} {hero} wanted to build {a project}. {He} had seen one [in a book|near {spot}|in a
dream], and {he} could think of nothing else.

{He} worked all morning, but then {project.broke}. "I will try again," said {hero}. {He} worked
all afternoon, but [again|once more] {project.broke}. {cry} "[I will never build a {project}|It is
too hard for me]," {he} said {sadly}.

{meet} "What are you making?" asked {friend}. "I want to build {a project}, but it does not work,"
said {hero}. {Friend} looked at it [carefully|from all sides]. "I know what you need," {friend.he}
said. "You need {project.part}. Let us ask {elder}."

{Elder} was busy {busy}, but {elder.he} stopped to help. "You can have {project.part}," said
{elder}. "[Take your time|Work together], and it will be fine." {Hero} and {friend} worked side by
side until {nightfall}. This time the {project} did not break. It was [strong and
beautiful|perfect|even better than the one {he} had seen].

[{thanks}|] They painted the {project} {colour} and {colour2}, and the next day they
{project.use}. {ending}
""",

# Learning a skill
"""
{start} {oneday} {hero} saw {friend} near {spot}. {Friend} was {a trait2} {friend.kind} who could
{skill} very well. "I want to {skill} too," said {hero}. "[It looks like so much fun|How I wish I
could]!"

The first time {hero} tried to {skill}, it went all wrong, and {a animal} laughed at {him}. The
second time was [not much better|even worse]. {cry} "[I cannot do it|I will never learn to
{skill}]," {he} said {sadly}.

{Friend} came over. "I could not {skill} at first either," said {friend}. "Let me show you. First,
{skill.part}. Then do it again and again." So {hero} practised {skill.doing} every day. {Elder}
[watched and clapped|came to watch|brought them {some fruit}]. Some days were hard, but {hero} did
not give up.

At last, one {weather2} morning, {hero} could {skill}! "[Look at me|I am doing it|I can do it]!"
{he} cried. {Friend} [clapped|cheered|danced with joy]. "I knew you could learn to {skill}," said
{friend}. [{thanks}|]

At the [spring|summer|harvest] fair, {hero} and {friend} showed everyone how well they could
{skill}. Even the {animal} who had laughed said, "That was wonderful!" {ending}
""",

# A gift for a friend who is ill
"""
{start} {His} best friend was {friend}, {a trait2} {friend.kind}. {oneday} {friend} was ill and
had to stay in bed. {Hero} wanted to bring {friend} {a flower} and some {soup} to make
{friend.him} feel better.

{Hero} picked {a colour} {flower} and put the {soup} in a basket. But on the way, {he} came to a
river, and the bridge was broken. {He} tried to jump, but the river was too wide. {He} tried to
wade, but it was too cold. {cry}

Then {a animal} came by. "Where are you going?" asked the {animal}. "My friend {friend} is ill,"
said {hero}. "I want to bring {friend.him} this {flower}, but I cannot cross the river." The
{animal} [thought for a moment|smiled]. "I have a little {colour2} boat," said the {animal}. "[Hop
in|I will take you across]!"

Soon {hero} was at {friend}'s house. "I brought you {a flower} and some {soup}," said {hero}.
{Friend} smelled the {flower} and ate the {soup}. Then {friend.he} smiled. "I feel better
already," said {friend}. "Thank you, {hero}."

A few days later, {friend} was well again. {Hero} and {friend} went to the river and gave the
{animal} {a cake} to say thank you. {ending}
""",

# A noise in the night
"""
{start} One [dark|quiet|cold|warm] night, {hero} woke up and heard {noise}. {Hero} wanted to know
what it was, so {he} took a lamp and went to look.

{He} looked {hidden}, but there was only {junk}. {He} looked {hidden2}, but there was only
{junk2}. Then {he} heard the noise again. There, {hidden3}, sat a little {baby}! "I am lost," said
the little {baby}. "I want to go home to my mother."

"[Do not cry|Do not be afraid]," said {hero}. "I will help you find her." They {went} to {spot},
but the mother was not there. The little {baby} [began to cry|was so tired]. {Hero} [wrapped it in
a blanket|gave it {a fruit}|sang it a song].

Then {hero} had an idea. {He} {went2} to the house of {friend.intro}. "We are looking for the
mother of this little {baby}," said {hero}. "I saw her near {spot2}," said {friend}. "Follow me!"

And there she was! The mother ran to them and [kissed|hugged] her little {baby}. "Thank you for
bringing my baby home," she said. The little {baby} was safe and {happy}. {Hero} and {friend}
[waved goodbye|smiled at each other], and walked home under the stars. {ending}
""",

# Saving up
"""
{start} {oneday} {hero} saw {a treasure} in the window of the shop. {He} wanted the {treasure}
[very much|more than anything|so much]. But it cost {number} coins, and {hero} had only one.

{He} looked for coins {hidden}, but {he} found only {junk}. {He} tried to sell {junk2}, but nobody
wanted to buy it. {cry} {He} told {elder} about the {treasure}. "You can work for it," said
{elder}. "I will give you a coin for every day you help me."

So {hero} went to work. On the first day, {he} {chore.did}. On the second day, {he} {chore2.did}.
{meet} "You look tired," said {friend}. "[Let me help you|I will help you]." The next day, they
{chore3.did} together, and it was [twice as easy|much more fun].

At last, {hero} had enough coins. {He} ran to the shop as fast as {he} could and paid for it.
"Here is my {treasure}!" {he} told {friend} {gladly}. "You helped me, so [we will share it|you may
use it too]."

{Hero} was [proud and {happy}|very proud], because {he} had worked for the {treasure}. {ending}
""",
]

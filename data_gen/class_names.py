"""What people call the classes of each data set, in short words of our own, in the order of labels."""

# The list "Action Classes" in the README of github.com/shahroudy/NTURGB-D.
NTU = """
drink water; eat meal; brush teeth; brush hair; drop; pick up; throw; sit down; stand up; clap;
read; write; tear up paper; put on jacket; take off jacket; put on a shoe; take off a shoe; put
on glasses; take off glasses; put on a hat; take off a hat; cheer up; wave hand; kick something;
reach into pocket; hop on one foot; jump up; phone call; play with phone; type on a keyboard;
point at something; take a selfie; check the time; rub hands; nod or bow; shake head; wipe face;
salute; put palms together; cross hands in front; sneeze or cough; stagger; fall; touch head;
touch chest; touch back; touch neck; nausea or vomiting; use a fan; punch or slap other person;
kick other person; push other person; pat other's back; point at other person; hug other person;
give something to other; touch other's pocket; shake hands; walk towards each other; walk apart;
put on headphones; take off headphones; shoot at the basket; bounce ball; swing tennis bat;
juggle table tennis balls; hush; flick hair; thumb up; thumb down; make OK sign; make victory
sign; staple book; count money; cut nails; cut paper; snap fingers; open bottle; sniff; squat
down; toss a coin; fold paper; ball up paper; play magic cube; apply cream on face; apply cream
on hand; put on bag; take off bag; put something into a bag; take something out of a bag; open a
box; move heavy objects; shake fist; throw up cap; hands up; cross arms; arm circles; arm
swings; run on the spot; butt kicks; cross toe touch; side kick; yawn; stretch oneself; blow
nose; hit other person with something; wield knife at other person; knock over other person;
grab other's things; shoot at other person; step on foot; high-five; cheers and drink; carry
something together; take a photo of other; follow other person; whisper in other's ear; exchange
things; support somebody; rock-paper-scissors
"""
# Gestures 0 to 8 of Miron et al., Data 2021, 6(5), 46. The article names no side that could be
# checked: right and left are those of the Kinect joints that move.
IRDS = """
elbow flexion right; elbow flexion left; shoulder flexion right; shoulder flexion left; shoulder
abduction right; shoulder abduction left; both arms raised forward; side tap right; side tap
left
"""
NW_UCLA_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # as in the names of its files
NW_UCLA = """
pick up with one hand; pick up with two hands; drop trash; walk around; sit down; stand up;
donning; doffing; throw; carry
"""


def numbered(names: str, actions=range(1, 121)) -> list[str]:
    """Names with the number of the action in front, as in NTU RGB+D: label 6 is 'A007 throw'."""
    words = ' '.join(names.split()).split('; ')
    return [f'A{action:03d} {name}' for action, name in zip(actions, words, strict=False)]


CLASS_NAMES = {
    'ntu60': numbered(NTU)[:60],
    'ntu120': numbered(NTU),
    'irds': numbered(IRDS),
    'nwucla': numbered(NW_UCLA, NW_UCLA_ACTIONS),
}

from purenet.rules import jvp as jvp
